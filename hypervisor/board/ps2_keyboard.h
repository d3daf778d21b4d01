// Ps2Keyboard: the keyboard that firmware and boot loaders know, behind the 8042: answers its
// commands and sends scan codes (IBM PS/2 keyboard, scan code sets 1 and 2).
//
// The 8042 asks for bytes with take() and forwards what the guest writes. Codes that find no room
// are dropped by whole keys. Not thread safe: the I8042's lock guards it.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/result.h"
#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

class Ps2Keyboard {
public:
    static constexpr size_t kBufferMax = 16;  // bytes, as in the real one

    void key(uint16_t scan_code, bool down);  // set 1, 0xe000 marks extended keys
    void write(uint8_t value);                // a command of the guest, or its parameter
    std::optional<uint8_t> take();            // the next byte for the 8042
    bool scanning() const { return scanning_; }
    void reset();
    void save(SectionWriter& out) const;
    Result<void> load(SectionReader& in);

private:
    void command(uint8_t value);
    void set_defaults();
    void answer(uint8_t value) { buffer_.push_back(value); }

    std::deque<uint8_t> buffer_;
    uint8_t parameter_of_ = 0;  // the command whose parameter comes next
    uint8_t set_ = 2;
    bool scanning_ = false;
};

// Set 2 to set 1, as the 8042 translates (bit 6 of its command byte); the break prefix 0xf0 becomes
// bit 7 of the byte that follows, which the caller does.
uint8_t ps2_translated(uint8_t set2);

}  // namespace kumoi::hypervisor
