// What SCSI targets have in common on the wire: big-endian numbers, sense data, replies with data.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "hypervisor/scsi/target.h"

namespace kumoi::hypervisor::scsi {

// Sense keys and additional sense codes (SPC-4 tables 41 and 48).
constexpr uint8_t kNoSense = 0x00;
constexpr uint8_t kNotReady = 0x02;
constexpr uint8_t kMediumError = 0x03;
constexpr uint8_t kIllegalRequest = 0x05;
constexpr uint8_t kUnitAttention = 0x06;
constexpr uint8_t kDataProtect = 0x07;
constexpr uint16_t kWriteError = 0x0c00;
constexpr uint16_t kUnrecoveredRead = 0x1100;
constexpr uint16_t kParameterListLength = 0x1a00;
constexpr uint16_t kInvalidOpcode = 0x2000;
constexpr uint16_t kOutOfRange = 0x2100;
constexpr uint16_t kInvalidField = 0x2400;
constexpr uint16_t kInvalidParameter = 0x2600;
constexpr uint16_t kWriteProtected = 0x2700;
constexpr uint16_t kSpaceAllocationFailed = 0x2707;
constexpr uint16_t kPowerOn = 0x2900;
constexpr uint16_t kDeviceReset = 0x2903;
constexpr uint16_t kCapacityChanged = 0x2a09;
constexpr uint16_t kSavingNotSupported = 0x3900;
constexpr uint16_t kMediumNotPresent = 0x3a00;
constexpr uint16_t kTrayOpen = 0x3a02;
constexpr uint16_t kRemovalPrevented = 0x5302;

// CHECK CONDITION with fixed-format sense data.
ScsiReply check(uint8_t key, uint16_t code);

uint64_t big(std::span<const uint8_t> bytes);

// Appends big-endian numbers and texts.
class Bytes {
public:
    Bytes& u8(uint64_t value) { return put(value, 1); }
    Bytes& u16(uint64_t value) { return put(value, 2); }
    Bytes& u32(uint64_t value) { return put(value, 4); }
    Bytes& u64(uint64_t value) { return put(value, 8); }
    Bytes& padded(std::string_view text, size_t size);
    Bytes& zeros(size_t count);
    Bytes& append(const std::vector<uint8_t>& more);
    size_t size() const { return bytes_.size(); }
    std::vector<uint8_t> take() { return std::move(bytes_); }

private:
    Bytes& put(uint64_t value, int size);
    std::vector<uint8_t> bytes_;
};

// At most `allocation` bytes, as the command allows.
ScsiReply data(std::vector<uint8_t> bytes, uint64_t allocation);
ScsiReply data(Bytes& bytes, uint64_t allocation);

}  // namespace kumoi::hypervisor::scsi
