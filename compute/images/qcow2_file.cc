#include "compute/images/qcow2_file.h"

#include <fcntl.h>

#include <array>
#include <cstring>

#include "base/fd.h"
#include "base/file.h"

namespace kumoi::compute {
namespace {

constexpr std::array<std::byte, 4> kMagic = {std::byte{'Q'}, std::byte{'F'}, std::byte{'I'},
                                             std::byte{0xfb}};
constexpr size_t kSizeOffset = 24;  // of the virtual size, big endian

}  // namespace

Result<uint64_t> qcow2_virtual_size(const std::string& path) {
    std::array<std::byte, kSizeOffset + 8> header{};
    const UniqueFd file = TRY(open_file(path, O_RDONLY));
    const size_t count = TRY(pread_some(file.get(), header, 0));
    if (count < header.size() || std::memcmp(header.data(), kMagic.data(), kMagic.size()) != 0) {
        return Error::corrupt("{} does not begin as a qcow2 image does", path);
    }
    uint64_t size = 0;
    for (size_t i = 0; i < 8; ++i) {
        size = size << 8 | std::to_integer<uint64_t>(header[kSizeOffset + i]);
    }
    return size;
}

}  // namespace kumoi::compute
