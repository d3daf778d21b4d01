#include "hypervisor/board/ps2_keyboard.h"

#include <algorithm>
#include <array>

namespace kumoi::hypervisor {

namespace {

constexpr uint8_t kAcknowledge = 0xfa;
constexpr uint8_t kSelfTestPassed = 0xaa;
constexpr uint8_t kResend = 0xfe;
constexpr uint8_t kExtended = 0xe0;
constexpr uint8_t kBreak2 = 0xf0;  // before a key's code, in set 2
constexpr uint8_t kBreak1 = 0x80;  // in a key's code, in set 1

enum Command : uint8_t {
    kSetLeds = 0xed,
    kEcho = 0xee,
    kScanCodeSet = 0xf0,
    kIdentify = 0xf2,
    kTypematic = 0xf3,
    kEnable = 0xf4,
    kDisable = 0xf5,
    kDefaults = 0xf6,
    kReset = 0xff,
};

// By set 1's code, 0x00 to 0x58: set 2's.
constexpr std::array<uint8_t, 0x59> kSet2 = {
    0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66,
    0x0d, 0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14,
    0x1c, 0x1b, 0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a,
    0x22, 0x21, 0x2a, 0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05,
    0x06, 0x04, 0x0c, 0x03, 0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b,
    0x6b, 0x73, 0x74, 0x79, 0x69, 0x72, 0x7a, 0x70, 0x71, 0x84, 0x00, 0x61, 0x78, 0x07};
// The keys behind 0xe0 that have no key of that number without it.
constexpr std::array<std::pair<uint8_t, uint8_t>, 3> kSet2Windows = {
    {{0x5b, 0x1f}, {0x5c, 0x27}, {0x5d, 0x2f}}};

uint8_t to_set2(uint8_t code) {
    if (code < kSet2.size()) {
        return kSet2[code];
    }
    const auto place = std::ranges::find(kSet2Windows, code, &std::pair<uint8_t, uint8_t>::first);
    return place != kSet2Windows.end() ? place->second : uint8_t{0};
}

enum SectionField : uint16_t { kFieldBuffer = 1, kFieldParameterOf, kFieldSet, kFieldScanning };

}  // namespace

uint8_t ps2_translated(uint8_t set2) {
    const auto place = std::ranges::find(kSet2, set2);
    if (set2 != 0 && place != kSet2.end()) {
        return static_cast<uint8_t>(place - kSet2.begin());
    }
    const auto windows =
        std::ranges::find(kSet2Windows, set2, &std::pair<uint8_t, uint8_t>::second);
    return windows != kSet2Windows.end() ? windows->first : set2;  // answers pass as they are
}

void Ps2Keyboard::key(uint16_t scan_code, bool down) {
    constexpr size_t kLongest = 3;
    const auto code = static_cast<uint8_t>(scan_code);
    if (!scanning_ || scan_code == 0 || buffer_.size() + kLongest > kBufferMax) {
        return;
    }
    const uint8_t sent = set_ == 1 ? code : to_set2(code);
    if (sent == 0) {
        return;
    }
    if (scan_code >= 0xe000) {
        answer(kExtended);
    }
    if (set_ == 1) {
        answer(static_cast<uint8_t>(sent | (down ? 0 : kBreak1)));
        return;
    }
    if (!down) {
        answer(kBreak2);
    }
    answer(sent);
}

void Ps2Keyboard::write(uint8_t value) {
    if (buffer_.size() + 3 > kBufferMax) {
        buffer_.clear();  // a command throws away what was not read (IBM's reference says so)
    }
    const uint8_t parameter_of = std::exchange(parameter_of_, uint8_t{0});
    if (parameter_of == 0 || value >= kSetLeds) {
        command(value);
        return;
    }
    answer(kAcknowledge);
    if (parameter_of == kScanCodeSet) {
        if (value == 0) {
            answer(set_);
        } else if (value <= 2) {
            set_ = value;
        }
    }
}

void Ps2Keyboard::command(uint8_t value) {
    switch (value) {
        case kEcho: answer(kEcho); return;
        case kSetLeds:
        case kTypematic:
        case kScanCodeSet: parameter_of_ = value; break;
        case kIdentify:
            answer(kAcknowledge);
            answer(0xab);
            answer(0x83);
            return;
        case kEnable: scanning_ = true; break;
        case kDisable: scanning_ = false; break;
        case kDefaults: set_defaults(); break;
        case kReset:
            buffer_.clear();
            set_defaults();
            answer(kAcknowledge);
            answer(kSelfTestPassed);
            return;
        default: answer(kResend); return;
    }
    answer(kAcknowledge);
}

void Ps2Keyboard::set_defaults() {
    set_ = 2;
    scanning_ = true;
}

std::optional<uint8_t> Ps2Keyboard::take() {
    if (buffer_.empty()) {
        return std::nullopt;
    }
    const uint8_t value = buffer_.front();
    buffer_.pop_front();
    return value;
}

void Ps2Keyboard::reset() {
    *this = Ps2Keyboard();
}

void Ps2Keyboard::save(SectionWriter& out) const {
    const std::vector<uint8_t> buffer(buffer_.begin(), buffer_.end());
    out.bytes(kFieldBuffer, std::span(buffer))
        .u64(kFieldParameterOf, parameter_of_)
        .u64(kFieldSet, set_)
        .flag(kFieldScanning, scanning_);
}

Result<void> Ps2Keyboard::load(SectionReader& in) {
    const auto buffer = TRY(in.bytes(kFieldBuffer));
    if (buffer.size() > kBufferMax) {
        return in.refuse(kFieldBuffer, "the keyboard's buffer is longer than it can be");
    }
    const auto set = TRY(in.u64_max(kFieldSet, 2));
    buffer_.clear();
    for (const std::byte byte : buffer) {
        buffer_.push_back(static_cast<uint8_t>(byte));
    }
    parameter_of_ = TRY(in.u8(kFieldParameterOf));
    set_ = set == 1 ? 1 : 2;
    scanning_ = TRY(in.flag(kFieldScanning));
    return {};
}

}  // namespace kumoi::hypervisor
