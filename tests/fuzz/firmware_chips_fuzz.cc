// Fuzzes the chips that firmware drives: fw_cfg with its DMA, the variables' flash, the LPC bridge,
// ACPI power management and CMOS, all on one port and memory bus.

#include <cstdlib>
#include <cstring>

#include "hypervisor/board/acpi_pm.h"
#include "hypervisor/board/board_layout.h"
#include "hypervisor/board/cmos_rtc.h"
#include "hypervisor/board/fw_cfg.h"
#include "hypervisor/board/lpc_bridge.h"
#include "hypervisor/firmware/fw_cfg_items.h"
#include "hypervisor/firmware/pflash.h"
#include "tests/fuzz/virtio_device_fuzz.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

constexpr uint64_t kFlashBase = 0xffc0'0000;
constexpr size_t kFlashSize = 16 << 10;
constexpr int kActionsMax = 400;

struct Store final : PflashStore {
    Result<void> write(uint64_t offset, std::span<const std::byte> bytes) override {
        if (offset > kFlashSize || bytes.size() > kFlashSize - offset) {
            std::abort();
        }
        return {};
    }
};

void add_files(FwCfg& fw_cfg, GuestMemory& memory) {
    FirmwareItems items;
    items.ram = memory.regions();
    items.boot_order = {boot_path_disk(11)};
    items.acpi = [] { return AcpiConfig{.vcpus = 2, .ram_end = 2u << 20}; };
    add_firmware_items(fw_cfg, items).value();
    fw_cfg.add_writable("etc/address", std::string(8, '\0'), {}).value();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    PlatformFake platform(2u << 20);
    ManualClock clock;
    Store store;
    std::vector<std::byte> content(kFlashSize, std::byte{0xff});
    auto flash = Pflash::create(platform, kFlashBase, content, store).value();
    FwCfg fw_cfg(platform.memory());
    add_files(fw_cfg, platform.memory());
    AcpiPm pm(clock, platform.irq_line(board::kSciIrq).value(), {[] {}, [] {}});
    CmosRtc rtc(clock, 2u << 20, 2);
    LpcBridge lpc([&platform](uint32_t pirq, uint32_t irq) { platform.route_pirq(pirq, irq); });
    IoBus& ports = platform.port_bus();
    ports.add(board::kFwCfgPort, board::kFwCfgSize, fw_cfg).value();
    ports.add(board::kPmBase, board::kPmSize, pm).value();
    ports.add(board::kCmosPort, CmosRtc::kPortCount, rtc).value();
    FuzzInput input(data, size);
    for (int action = 0; action < kActionsMax && !input.empty(); ++action) {
        const auto opcode = input.take<uint8_t>();
        uint8_t bytes[8] = {};
        const auto part = std::span(bytes).first(size_t{1} << (opcode >> 3 & 3));
        const auto value = input.take<uint32_t>();
        std::memcpy(bytes, &value, sizeof value);
        const uint16_t bases[] = {board::kFwCfgPort, board::kFwCfgPort, board::kPmBase,
                                  board::kCmosPort};
        const uint16_t port = bases[opcode >> 6] + input.take<uint8_t>() % 16;
        switch (opcode & 7) {
            case 0: ports.read(port, part); break;
            case 1: ports.write(port, part); break;
            case 2: platform.memory().write(value % (1u << 20), input.bytes(16)).value(); break;
            case 3: platform.mmio_bus().read(kFlashBase + value % kFlashSize, part); break;
            case 4:
                platform.mmio_bus().write(kFlashBase + input.take<uint16_t>() % kFlashSize, part);
                break;
            case 5: lpc.config_write(value & 0xff, 1u << (opcode >> 3 & 1), value >> 8); break;
            case 6: {  // a DMA request at a place the guest can have written
                const uint8_t zeros[4] = {};
                const uint32_t where = __builtin_bswap32(value % (1u << 20));
                std::memcpy(bytes, &where, sizeof where);
                ports.write(board::kFwCfgPort + 4, zeros);
                ports.write(board::kFwCfgPort + 8, std::span(bytes).first(4));
                break;
            }
            default:
                flash->reset();
                fw_cfg.reset();
                pm.reset();
                lpc.reset();
                break;
        }
    }
    return 0;
}
