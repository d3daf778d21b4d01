// Our own programs as the tests find them: in the build tree beside them, or by environment.
#pragma once

#include <array>
#include <cstdlib>
#include <string>

#include <unistd.h>

#include "base/file.h"

namespace kumoi {

// In the build tree this program is in; empty when it is not built.
inline std::string built_program(const std::string& name) {
    std::array<char, 4096> self{};
    const ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size() - 1);
    std::string folder(self.data(), length > 0 ? static_cast<size_t>(length) : 0);
    for (int up = 0; up < 4 && !folder.empty(); ++up) {
        folder.resize(folder.rfind('/'));
        for (const char* place : {"/", "/hypervisor/", "/bin/"}) {
            if (path_exists(folder + place + name)) {
                return folder + place + name;
            }
        }
    }
    return {};
}

// $KUMOI_IMG, else the built one.
inline std::string kumoi_img() {
    const char* named = std::getenv("KUMOI_IMG");
    return named != nullptr ? named : built_program("kumoi-img");
}

}  // namespace kumoi
