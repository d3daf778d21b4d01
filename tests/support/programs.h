// Our own programs as the tests find them: in the build tree beside them, or by environment.
#pragma once

#include <array>
#include <cstdlib>
#include <string>

#include <unistd.h>

#include "base/file.h"

namespace kumoi {

// kumoi-img: $KUMOI_IMG, else in the build tree this program is in; empty when it is not built.
inline std::string kumoi_img() {
    if (const char* named = std::getenv("KUMOI_IMG"); named != nullptr) {
        return named;
    }
    std::array<char, 4096> self{};
    const ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size() - 1);
    std::string folder(self.data(), length > 0 ? static_cast<size_t>(length) : 0);
    for (int up = 0; up < 4 && !folder.empty(); ++up) {
        folder.resize(folder.rfind('/'));
        for (const char* place : {"/kumoi-img", "/hypervisor/kumoi-img", "/bin/kumoi-img"}) {
            if (path_exists(folder + place)) {
                return folder + place;
            }
        }
    }
    return {};
}

}  // namespace kumoi
