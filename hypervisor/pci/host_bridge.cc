#include "hypervisor/pci/host_bridge.h"

namespace kumoi::hypervisor {

namespace {

// SeaBIOS and OVMF recognise the machine by these ids; the subsystem ids are what make SeaBIOS look
// for fw_cfg at all.
constexpr PciIds kIds{.vendor = 0x8086,
                      .device = 0x29c0,
                      .subsystem_vendor = 0x1af4,
                      .subsystem = 0x1100,
                      .class_code = 0x06'00'00,
                      .revision = 0};
// 82G33 datasheet, §5.1.
constexpr uint32_t kPciexbar = 0x60;
constexpr uint32_t kPam0 = 0x90;
constexpr uint32_t kPamCount = 7;
constexpr uint32_t kSmram = 0x9d;
constexpr uint32_t kEsmramc = 0x9e;
constexpr uint8_t kSmramReset = 0x02;
constexpr uint8_t kEsmramcReset = 0x38;
constexpr uint32_t kEnable = 1u << 0;
constexpr uint32_t kLengthMask = 3u << 1;  // 0: 256 MiB
constexpr uint32_t kLowWritable = 0xf000'0007;
constexpr uint32_t kHighWritable = 0xf;  // 36 address bits

enum Field : uint16_t { kFieldConfigSpace = 1 };  // of the section; never reused

}  // namespace

HostBridge::HostBridge(uint64_t ecam_base) : config_(kIds), ecam_base_(ecam_base) {
    config_.set_writable(kPciexbar, 4, kLowWritable);
    config_.set_writable(kPciexbar + 4, 4, kHighWritable);
    for (uint32_t index = 0; index < kPamCount; ++index) {
        config_.set_writable(kPam0 + index, 1, index == 0 ? 0x30 : 0x33);
    }
    config_.set_writable(kSmram, 1, 0x78);
    config_.set_writable(kEsmramc, 1, 0x87);
    reset();
}

void HostBridge::reset() {
    config_.reset_command();
    const uint64_t pciexbar = ecam_base_ != 0 ? ecam_base_ | kEnable : 0;
    config_.set(kPciexbar, 4, static_cast<uint32_t>(pciexbar));
    config_.set(kPciexbar + 4, 4, static_cast<uint32_t>(pciexbar >> 32));
    for (uint32_t index = 0; index < kPamCount; ++index) {
        config_.set(kPam0 + index, 1, 0);
    }
    config_.set(kSmram, 1, kSmramReset);
    config_.set(kEsmramc, 1, kEsmramcReset);
}

uint64_t HostBridge::ecam_base() const {
    const uint32_t low = config_.read(kPciexbar, 4);
    if ((low & kEnable) == 0 || (low & kLengthMask) != 0) {
        return 0;
    }
    return (low & ~uint64_t{0x0fff'ffff}) | uint64_t{config_.read(kPciexbar + 4, 4)} << 32;
}

void HostBridge::save(SectionWriter& out) const {
    out.bytes(kFieldConfigSpace, config_.bytes());
}

Result<void> HostBridge::load(SectionReader& in) {
    return config_.load(TRY(in.bytes(kFieldConfigSpace)));
}

}  // namespace kumoi::hypervisor
