#include "hypervisor/upgrade/heir_memory.h"

#include <sys/stat.h>

#include <cerrno>

namespace kumoi::hypervisor {

Result<UniqueFd> HeirMemoryHost::make_file(uint64_t huge_page_size) {
    UniqueFd file = heritage_ == nullptr ? UniqueFd() : heritage_->take(std::string(kRamName));
    if (!file.is_open()) {
        return host_.make_file(huge_page_size);
    }
    struct stat status {};
    if (fstat(file.get(), &status) != 0) {
        return Error::from_errno(errno, "looking at the inherited memory");
    }
    const auto page = static_cast<uint64_t>(status.st_blksize);  // of a file in huge pages
    if (huge_page_size != 0 && page != huge_page_size) {
        return Error::invalid("the guest's memory has pages of {} KiB, this machine's {}",
                              page >> 10, huge_page_size >> 10);
    }
    return file;
}

void HeirMemoryHost::remember(int file) {
    if (heritage_ != nullptr) {
        heritage_->remember(std::string(kRamName), file);
    }
}

}  // namespace kumoi::hypervisor
