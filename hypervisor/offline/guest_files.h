// GuestFiles: the file tree of a stopped guest, as customization sees it. Paths are absolute in the
// guest and symbolic links are followed inside it. What is read comes from a guest: bounded,
// hostile. Blocking, one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kumoi::hypervisor::offline {

struct Owner {
    uint32_t uid = 0;
    uint32_t gid = 0;
};

class GuestFiles {
public:
    static constexpr uint64_t kReadMax = 1u << 20;  // bytes of one file

    virtual ~GuestFiles() = default;
    virtual Result<bool> exists(const std::string& path) = 0;  // of any kind
    virtual Result<bool> is_directory(const std::string& path) = 0;
    // Error when it is no regular file, or larger than kReadMax.
    virtual Result<std::string> read(const std::string& path) = 0;
    // Replaces the content; a new file gets `mode`, one that is there keeps its own and its owner.
    virtual Result<void> write(const std::string& path, std::string_view content,
                               uint32_t mode) = 0;
    virtual Result<void> make_directory(const std::string& path,
                                        uint32_t mode) = 0;  // with parents
    virtual Result<void> own(const std::string& path, Owner owner) = 0;
    virtual Result<void> chmod(const std::string& path, uint32_t mode) = 0;
    // Removes it, with what is in it; absent is fine.
    virtual Result<void> remove(const std::string& path) = 0;
    // Paths that match a glob(7) pattern.
    virtual Result<std::vector<std::string>> glob(const std::string& pattern) = 0;
};

}  // namespace kumoi::hypervisor::offline
