#include "hypervisor/board/legacy_ports.h"

#include <algorithm>
#include <utility>

#include "hypervisor/display/keysyms.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kDataOffset = 0;
constexpr uint64_t kCommandOffset = 4;
constexpr uint8_t kStatusOutputFull = 0x01;
constexpr uint8_t kStatusSystem = 0x04;  // POST has passed
constexpr uint8_t kStatusUnlocked = 0x10;
constexpr uint8_t kCommandReadByte = 0x20;
constexpr uint8_t kCommandWriteByte = 0x60;
constexpr uint8_t kCommandDisableAux = 0xa7;
constexpr uint8_t kCommandEnableAux = 0xa8;
constexpr uint8_t kCommandTestAux = 0xa9;
constexpr uint8_t kCommandSelfTest = 0xaa;
constexpr uint8_t kCommandTestKeyboard = 0xab;
constexpr uint8_t kCommandDisableKeyboard = 0xad;
constexpr uint8_t kCommandEnableKeyboard = 0xae;
constexpr uint8_t kCommandReadOutputPort = 0xd0;
constexpr uint8_t kCommandWriteOutputPort = 0xd1;
constexpr uint8_t kCommandWriteOutput = 0xd2;  // as if the keyboard had sent the byte
constexpr uint8_t kCommandPulse = 0xf0;        // to 0xff: pulse low the bits that are 0
constexpr uint8_t kSelfTestPassed = 0x55;
constexpr uint8_t kByteInterrupt = 0x01;  // of the command byte
constexpr uint8_t kByteKeyboardOff = 0x10;
constexpr uint8_t kByteTranslate = 0x40;
constexpr uint8_t kBreakPrefix = 0xf0;  // scan code set 2
constexpr uint8_t kInterfaceGood = 0x00;
constexpr uint8_t kInterfaceClockStuck = 0x01;  // nothing is plugged in
constexpr uint8_t kOutputPortDefault = 0x03;    // not in reset, A20 open
constexpr uint8_t kOutputPortReset = 0x01;      // active low

// Fields of the sections; never reused.
enum KeyboardField : uint16_t {
    kFieldCommandByte = 1,
    kFieldOutput = 2,
    kFieldOutputFull = 3,
    kFieldPendingCommand = 4,
    kFieldKeyboard = 5,  // only of a machine with one
};
enum PortField : uint16_t { kFieldValue = 1, kFieldLine = 2 };

}  // namespace

void I8042::io_read(uint64_t offset, std::span<uint8_t> data) {
    std::ranges::fill(data, uint8_t{0xff});
    const std::lock_guard lock(mutex_);
    if (offset == kDataOffset) {
        data[0] = output_;
        output_full_ = false;
        refill();
    } else if (offset == kCommandOffset) {
        data[0] = static_cast<uint8_t>(kStatusUnlocked | kStatusSystem |
                                       (output_full_ ? kStatusOutputFull : 0));
    }
}

void I8042::io_write(uint64_t offset, std::span<const uint8_t> data) {
    const std::lock_guard lock(mutex_);
    if (offset == kDataOffset) {
        data_write(data[0]);
    } else if (offset == kCommandOffset) {
        command(data[0]);
    }
}

void I8042::answer(uint8_t value) {
    output_ = value;
    output_full_ = true;
}

void I8042::command(uint8_t value) {
    pending_command_ = 0;
    if (value >= kCommandPulse) {
        if ((value & kOutputPortReset) == 0) {
            request_reset_();
        }
        return;
    }
    switch (value) {
        case kCommandReadByte: answer(command_byte_); break;
        case kCommandTestAux: answer(kInterfaceClockStuck); break;
        case kCommandTestKeyboard: answer(irq_ ? kInterfaceGood : kInterfaceClockStuck); break;
        case kCommandSelfTest: answer(kSelfTestPassed); break;
        case kCommandReadOutputPort: answer(kOutputPortDefault); break;
        case kCommandWriteByte:
        case kCommandWriteOutput:
        case kCommandWriteOutputPort: pending_command_ = value; break;
        case kCommandDisableKeyboard: command_byte_ |= 0x10; break;
        case kCommandEnableKeyboard:
            command_byte_ &= static_cast<uint8_t>(~kByteKeyboardOff);
            refill();
            break;
        case kCommandDisableAux: command_byte_ |= 0x20; break;
        case kCommandEnableAux: command_byte_ &= 0xdf; break;
        default: break;
    }
}

void I8042::data_write(uint8_t value) {
    const uint8_t pending = std::exchange(pending_command_, uint8_t{0});
    if (pending == kCommandWriteByte) {
        command_byte_ = value;
        refill();
    } else if (pending == kCommandWriteOutput) {
        answer(value);
        if (irq_ && (command_byte_ & kByteInterrupt) != 0) {
            irq_->pulse();
        }
    } else if (pending == kCommandWriteOutputPort) {
        if ((value & kOutputPortReset) == 0) {
            request_reset_();
        }
    } else if (irq_) {
        command_byte_ &= static_cast<uint8_t>(~kByteKeyboardOff);  // as the chip does to send
        keyboard_.write(value);
        refill();
    }
}

void I8042::plug_keyboard(std::unique_ptr<IrqLine> irq) {
    const std::lock_guard lock(mutex_);
    irq_ = std::move(irq);
}

bool I8042::ready() const {
    const std::lock_guard lock(mutex_);
    return irq_ && keyboard_.scanning();
}

void I8042::key(uint16_t code, bool down) {
    const std::lock_guard lock(mutex_);
    if (irq_) {
        keyboard_.key(scan_code_of_key(code), down);
        refill();
    }
}

void I8042::refill() {
    if (!irq_ || output_full_ || (command_byte_ & kByteKeyboardOff) != 0) {
        return;
    }
    auto byte = keyboard_.take();
    if (byte && (command_byte_ & kByteTranslate) != 0) {
        uint8_t released = 0;
        if (*byte == kBreakPrefix) {
            byte = keyboard_.take();
            released = 0x80;
        }
        if (byte) {
            byte = static_cast<uint8_t>(ps2_translated(*byte) | released);
        }
    }
    if (!byte) {
        return;
    }
    answer(*byte);
    if ((command_byte_ & kByteInterrupt) != 0) {
        irq_->pulse();
    }
}

void I8042::reset() {
    const std::lock_guard lock(mutex_);
    command_byte_ = 0x30;
    keyboard_.reset();
    output_ = 0;
    output_full_ = false;
    pending_command_ = 0;
}

void I8042::save(SectionWriter& out) const {
    const std::lock_guard lock(mutex_);
    out.u64(kFieldCommandByte, command_byte_).u64(kFieldOutput, output_);
    out.flag(kFieldOutputFull, output_full_).u64(kFieldPendingCommand, pending_command_);
    if (irq_) {
        SectionWriter keyboard("keyboard", 1);
        keyboard_.save(keyboard);
        out.group(kFieldKeyboard, keyboard);
    }
}

Result<void> I8042::load(SectionReader& in) {
    const std::lock_guard lock(mutex_);
    command_byte_ = TRY(in.u8(kFieldCommandByte));
    output_ = TRY(in.u8(kFieldOutput));
    output_full_ = TRY(in.flag(kFieldOutputFull));
    pending_command_ = TRY(in.u8(kFieldPendingCommand));
    if (irq_ && in.has(kFieldKeyboard)) {
        auto keyboard = TRY(in.group(kFieldKeyboard));
        TRY(keyboard_.load(keyboard));
        TRY(keyboard.finish());
    }
    return {};
}

void Port92::save(SectionWriter& out) const {
    out.u64(kFieldValue, value_);
}

Result<void> Port92::load(SectionReader& in) {
    value_ = TRY(in.u8(kFieldValue));
    return {};
}

void Port92::io_read(uint64_t, std::span<uint8_t> data) {
    std::ranges::fill(data, uint8_t{0xff});
    data[0] = value_;
}

void Port92::io_write(uint64_t, std::span<const uint8_t> data) {
    constexpr uint8_t kFastReset = 0x01;
    const uint8_t before = value_.exchange(data[0] & static_cast<uint8_t>(~kFastReset));
    if ((data[0] & kFastReset) != 0 && (before & kFastReset) == 0) {
        request_reset_();
    }
}

void DebugPort::io_read(uint64_t, std::span<uint8_t> data) {
    std::ranges::fill(data, uint8_t{0xff});
    data[0] = signature_;
}

void DebugPort::io_write(uint64_t, std::span<const uint8_t> data) {
    const std::lock_guard lock(mutex_);
    const char byte = static_cast<char>(data[0]);
    if (byte != '\n') {
        line_ += byte;
    }
    if (byte == '\n' || line_.size() >= kLineMax) {
        sink_(line_);
        line_.clear();
    }
}

void DebugPort::save(SectionWriter& out) const {
    const std::lock_guard lock(mutex_);
    out.text(kFieldLine, line_);
}

Result<void> DebugPort::load(SectionReader& in) {
    const std::lock_guard lock(mutex_);
    line_ = TRY(in.text(kFieldLine, kLineMax));
    return {};
}

void PostPort::io_read(uint64_t, std::span<uint8_t> data) {
    std::ranges::fill(data, uint8_t{0xff});
}

void PostPort::io_write(uint64_t, std::span<const uint8_t> data) {
    code_ = data[0];
}

void PostPort::save(SectionWriter& out) const {
    out.u64(kFieldValue, code_);
}

Result<void> PostPort::load(SectionReader& in) {
    code_ = TRY(in.u8(kFieldValue));
    return {};
}

}  // namespace kumoi::hypervisor
