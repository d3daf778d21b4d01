#include "hypervisor/board/lpc_bridge.h"

#include <algorithm>

#include "hypervisor/board/board_layout.h"

namespace kumoi::hypervisor {

namespace {

constexpr PciIds kIds{.vendor = 0x8086,
                      .device = 0x2918,
                      .subsystem_vendor = 0x1af4,
                      .subsystem = 0x1100,
                      .class_code = 0x06'01'00,
                      .revision = 2};
// ICH9 datasheet, §13.1.
constexpr uint32_t kPmBaseRegister = 0x40;
constexpr uint32_t kAcpiControl = 0x44;
constexpr uint32_t kPirqA = 0x60;
constexpr uint32_t kPirqE = 0x68;
constexpr uint32_t kGeneralPm1 = 0xa0;
constexpr uint32_t kBiosControl = 0xdc;
constexpr uint32_t kRootComplexBase = 0xf0;
constexpr uint32_t kIoSpace = 1;
constexpr uint8_t kPirqDisabled = 0x80;
constexpr uint8_t kPirqIrqMask = 0x0f;
// 8259 lines that a PIRQ may be routed to: the rest belong to chips on the board.
constexpr uint32_t kIsaIrqsAllowed = 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 9 |
                                     1u << 10 | 1u << 11 | 1u << 12 | 1u << 14 | 1u << 15;
constexpr uint32_t kApmcEnable = 1u << 5;  // SMI_EN

enum Field : uint16_t { kFieldConfigSpace = 1 };  // of the section; never reused

}  // namespace

LpcBridge::LpcBridge(Route route) : config_(kIds), route_(std::move(route)) {
    config_.set(kPmBaseRegister, 4, board::kPmBase | kIoSpace);
    config_.set_writable(kAcpiControl, 1, 0x87);
    for (uint32_t line = 0; line < 4; ++line) {
        config_.set_writable(kPirqA + line, 1, kPirqDisabled | kPirqIrqMask);
        config_.set_writable(kPirqE + line, 1, kPirqDisabled | kPirqIrqMask);
    }
    config_.set_writable(kGeneralPm1, 2, 0xffff);
    config_.set_writable(kBiosControl, 1, 0x01);
    config_.set_writable(kRootComplexBase, 4, 0xffff'c001);
    reset();
}

void LpcBridge::reset() {
    config_.reset_command();
    config_.set(kAcpiControl, 1, 0);
    for (uint32_t line = 0; line < 4; ++line) {
        config_.set(kPirqA + line, 1, kPirqDisabled);
        config_.set(kPirqE + line, 1, kPirqDisabled);
    }
    config_.set(kGeneralPm1, 2, 0);
    config_.set(kBiosControl, 1, 0);
    config_.set(kRootComplexBase, 4, 0);
    follow_routes();
}

void LpcBridge::config_write(uint32_t offset, uint32_t width, uint32_t value) {
    config_.write(offset, width, value);
    if (offset < kPirqA + board::kPirqCount && offset + width > kPirqA) {
        follow_routes();
    }
}

void LpcBridge::follow_routes() {
    for (uint32_t line = 0; line < board::kPirqCount; ++line) {
        const uint32_t value = config_.read(kPirqA + line, 1);
        const uint32_t irq = value & kPirqIrqMask;
        const bool usable = (value & kPirqDisabled) == 0 && (kIsaIrqsAllowed >> irq & 1) != 0;
        route_(line, usable ? irq : 0);
    }
}

void LpcBridge::save(SectionWriter& out) const {
    out.bytes(kFieldConfigSpace, config_.bytes());
}

Result<void> LpcBridge::load(SectionReader& in) {
    TRY(config_.load(TRY(in.bytes(kFieldConfigSpace))));
    follow_routes();
    return {};
}

void SmiRegisters::io_read(uint64_t offset, std::span<uint8_t> data) {
    for (size_t i = 0; i < data.size(); ++i) {
        data[i] = offset + i == 0 ? static_cast<uint8_t>(kApmcEnable) : uint8_t{0};
    }
}

}  // namespace kumoi::hypervisor
