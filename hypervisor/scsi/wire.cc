#include "hypervisor/scsi/wire.h"

#include <algorithm>
#include <utility>

namespace kumoi::hypervisor::scsi {

ScsiReply check(uint8_t key, uint16_t code) {
    ScsiReply reply;
    reply.status = kCheckCondition;
    reply.sense.assign(kSenseSize, 0);
    reply.sense[0] = 0x70;
    reply.sense[2] = key;
    reply.sense[7] = kSenseSize - 8;
    reply.sense[12] = static_cast<uint8_t>(code >> 8);
    reply.sense[13] = static_cast<uint8_t>(code);
    return reply;
}

uint64_t big(std::span<const uint8_t> bytes) {
    uint64_t value = 0;
    for (const uint8_t byte : bytes) {
        value = value << 8 | byte;
    }
    return value;
}

Bytes& Bytes::padded(std::string_view text, size_t size) {
    for (size_t i = 0; i < size; ++i) {
        u8(i < text.size() ? static_cast<uint8_t>(text[i]) : ' ');
    }
    return *this;
}

Bytes& Bytes::zeros(size_t count) {
    bytes_.resize(bytes_.size() + count);
    return *this;
}

Bytes& Bytes::append(const std::vector<uint8_t>& more) {
    bytes_.insert(bytes_.end(), more.begin(), more.end());
    return *this;
}

Bytes& Bytes::put(uint64_t value, int size) {
    for (int shift = (size - 1) * 8; shift >= 0; shift -= 8) {
        bytes_.push_back(static_cast<uint8_t>(value >> shift));
    }
    return *this;
}

ScsiReply data(std::vector<uint8_t> bytes, uint64_t allocation) {
    ScsiReply reply;
    bytes.resize(std::min<uint64_t>(bytes.size(), allocation));
    reply.data = std::move(bytes);
    return reply;
}

ScsiReply data(Bytes& bytes, uint64_t allocation) {
    return data(bytes.take(), allocation);
}

}  // namespace kumoi::hypervisor::scsi
