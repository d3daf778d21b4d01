#include "compute/images/image_inspector.h"

#include <cstddef>

namespace kumoi::compute {
namespace {

// docs/interop/qcow2 of QEMU: big-endian header.
constexpr uint32_t kQcow2Magic = 0x514649fb;  // "QFI\xfb"
constexpr size_t kQcow2HeaderBytesMin = 72;
constexpr uint64_t kIncompatibleDataFile = 1u << 2;
constexpr uint64_t kVirtualSizeMax = uint64_t{1} << 56;

uint64_t big_endian(std::span<const std::byte> bytes, size_t offset, size_t size) {
    uint64_t value = 0;
    for (size_t index = 0; index < size; ++index) {
        value = value << 8 | std::to_integer<uint64_t>(bytes[offset + index]);
    }
    return value;
}

bool is_qcow2(std::span<const std::byte> head) {
    return head.size() >= 4 && big_endian(head, 0, 4) == kQcow2Magic;
}

Result<ImageInspection> inspect_qcow2(std::span<const std::byte> head) {
    if (head.size() < kQcow2HeaderBytesMin || !is_qcow2(head)) {
        return Error::invalid("The data is not a qcow2 image: it does not begin with its header")
            .with_hint("give the disk_format that the file has");
    }
    const uint64_t version = big_endian(head, 4, 4);
    if (version != 2 && version != 3) {
        return Error::invalid("The qcow2 image has version {}, known are 2 and 3", version);
    }
    if (big_endian(head, 8, 8) != 0) {
        return Error::invalid("The qcow2 image has a backing file, which the service must not open")
            .with_hint("flatten it: qemu-img convert -O qcow2 old new");
    }
    if (version == 3 && head.size() < kQcow2HeaderBytesMin + 8) {
        return Error::invalid("The qcow2 image ends inside its header");
    }
    if (version == 3 && (big_endian(head, 72, 8) & kIncompatibleDataFile) != 0) {
        return Error::invalid("The qcow2 image keeps its data in another file of the host")
            .with_hint("convert it: qemu-img convert -O qcow2 old new");
    }
    const uint64_t virtual_size = big_endian(head, 24, 8);
    if (virtual_size > kVirtualSizeMax) {
        return Error::invalid("The qcow2 image claims a disk of {} bytes", virtual_size);
    }
    return ImageInspection{virtual_size};
}

}  // namespace

Result<ImageInspection> inspect_image(const std::string& disk_format,
                                      std::span<const std::byte> head, uint64_t file_size) {
    if (disk_format == "qcow2") {
        return inspect_qcow2(head);
    }
    if (disk_format == "raw" || disk_format == "iso") {
        // A qcow2 header in a "raw" disk is how a careless reader that probes formats is tricked.
        if (is_qcow2(head)) {
            return Error::invalid("The data is a qcow2 image, but disk_format says {}", disk_format)
                .with_hint("create the image with disk_format qcow2");
        }
        return ImageInspection{file_size};
    }
    return ImageInspection{};
}

}  // namespace kumoi::compute
