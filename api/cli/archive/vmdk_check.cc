#include "api/cli/archive/vmdk_check.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"

namespace kumoi::cli {

namespace {

constexpr size_t kSector = 512;
constexpr size_t kDescriptorMax = 64u << 10;

uint64_t little(const uint8_t* bytes, size_t size) {
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;) {
        value = value << 8 | bytes[i];
    }
    return value;
}

std::string_view value_of(std::string_view line) {
    const size_t equals = line.find('=');
    std::string_view value = equals == std::string_view::npos ? "" : line.substr(equals + 1);
    while (!value.empty() && (value.front() == ' ' || value.front() == '"')) {
        value.remove_prefix(1);
    }
    while (!value.empty() && (value.back() == ' ' || value.back() == '"' || value.back() == '\r')) {
        value.remove_suffix(1);
    }
    return value;
}

bool is_extent(std::string_view line) {
    for (const std::string_view access : {"RW ", "RDONLY ", "NOACCESS "}) {
        if (line.starts_with(access)) {
            return true;
        }
    }
    return false;
}

}  // namespace

Result<void> check_vmdk_descriptor(std::string_view text) {
    std::string_view type;
    size_t extents = 0;
    while (!text.empty() && text.front() != '\0') {
        const size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.starts_with("createType")) {
            type = value_of(line);
        } else if (line.starts_with("parentFileNameHint") ||
                   (line.starts_with("parentCID") && value_of(line) != "ffffffff")) {
            return Error::unsupported("the disk is a difference to another disk");
        } else if (is_extent(line)) {
            ++extents;
            if (line.find(" SPARSE ") == std::string_view::npos) {
                return Error::unsupported("the disk names other files as its content: {}",
                                          line.substr(0, 100));
            }
        }
    }
    if (type != "streamOptimized" && type != "monolithicSparse") {
        return Error::unsupported(
            "the disk is of VMDK type \"{}\"; streamOptimized and monolithicSparse are taken",
            type);
    }
    if (extents > 1) {
        return Error::unsupported("the disk is made of {} files; one is taken", extents);
    }
    return {};
}

Result<void> check_vmdk(const std::string& path) {
    const UniqueFd fd = TRY(open_file(path, O_RDONLY));
    std::array<uint8_t, kSector> header{};
    if (pread(fd.get(), header.data(), header.size(), 0) != static_cast<ssize_t>(kSector) ||
        std::memcmp(header.data(), "KDMV", 4) != 0) {
        return Error::unsupported("{} is no VMDK in one sparse file", path);
    }
    // SparseExtentHeader (VMware Virtual Disk Format 5.0): capacity, descriptorOffset and -Size.
    const uint64_t capacity = little(&header[12], 8);
    const uint64_t offset = little(&header[28], 8);
    const uint64_t size = little(&header[36], 8);
    if (capacity == 0 || offset == 0 || size == 0 || size > kDescriptorMax / kSector) {
        return Error::unsupported(
            "{} has a capacity of {} sectors and a descriptor of {}: such "
            "disks are not taken",
            path, capacity, size);
    }
    std::string descriptor(size * kSector, '\0');
    if (offset > INT64_MAX / kSector ||
        pread(fd.get(), descriptor.data(), descriptor.size(),
              static_cast<off_t>(offset * kSector)) != static_cast<ssize_t>(descriptor.size())) {
        return Error::corrupt("{} ends before its descriptor", path);
    }
    TRY_CONTEXT(check_vmdk_descriptor(descriptor), "{}", path);
    return {};
}

}  // namespace kumoi::cli
