#include "api/cli/programs.h"

#include <unistd.h>

#include <array>

#include "base/file.h"
#include "base/subprocess.h"

namespace kumoi::cli {

Result<std::string> find_kumoi_program(const std::string& name) {
    std::array<char, 4096> self{};
    const ssize_t length = readlink("/proc/self/exe", self.data(), self.size() - 1);
    if (length > 0) {
        const std::string path(self.data(), static_cast<size_t>(length));
        const std::string folder = path.substr(0, path.rfind('/'));
        for (const char* place : {"/", "/../hypervisor/"}) {
            const std::string beside = folder + place + name;
            if (access(beside.c_str(), X_OK) == 0) {
                return beside;
            }
        }
    }
    return find_program(name);
}

}  // namespace kumoi::cli
