// Fuzzes the PCI side of the machine: configuration cycles by ports and ECAM, BAR moves, MSI-X
// tables, the virtio registers and the configuration window, on a root with two virtio devices. No
// I/O thread is started by accident: rings are wrong most of the time, and right ones must work,
// too.

#include <cstdlib>
#include <cstring>

#include "hypervisor/pci/pci_root.h"
#include "hypervisor/virtio/pci_transport.h"
#include "hypervisor/virtio/rng.h"
#include "tests/fuzz/virtio_device_fuzz.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr int kActionsMax = 300;
    PlatformFake platform(2u << 20);
    SeededRandom random(1);
    auto one = VirtioPciDevice::create(platform, std::make_unique<VirtioRng>("rng0", random),
                                       {.intx_gsi = 10})
                   .value();
    auto two =
        VirtioPciDevice::create(platform, std::make_unique<VirtioRng>("rng1", random)).value();
    PciRoot root(platform, {.ecam_base = 0xe000'0000});
    root.add({1}, *one).value();
    root.add({2}, *two).value();
    root.assign_bars().value();
    root.attach().value();
    FuzzInput input(data, size);
    for (int action = 0; action < kActionsMax && !input.empty(); ++action) {
        const auto opcode = input.take<uint8_t>();
        uint8_t bytes[8] = {};
        const size_t width = size_t{1} << (opcode >> 3 & 3);
        const auto part = std::span(bytes).first(width);
        const unsigned slot = 1 + (opcode >> 7);
        switch (opcode & 7) {
            case 0: platform.port_bus().read(0xcf8 + input.take<uint8_t>() % 8, part); break;
            case 1: {
                const uint64_t port = 0xcf8 + input.take<uint8_t>() % 8;
                const auto value = input.take<uint64_t>();
                std::memcpy(bytes, &value, 8);
                platform.port_bus().write(port, part);
                break;
            }
            case 2:
                root.config_write(slot, 0, input.take<uint8_t>(), 1u << (opcode >> 3 & 3) % 3,
                                  input.take<uint32_t>());
                break;
            case 3:
                platform.mmio_bus().read(0xe000'0000 + input.take<uint32_t>() % (1u << 20), part);
                break;
            case 4:
            case 5: {
                const uint64_t at = input.take<uint16_t>() % VirtioPciDevice::kBarSize;
                const auto value = input.take<uint64_t>();
                std::memcpy(bytes, &value, 8);
                platform.mmio_bus().write(root.bar_address({slot}, 0) + at, part);
                break;
            }
            case 6:
                platform.mmio_bus().read(root.bar_address({slot}, 0) + input.take<uint16_t>(),
                                         part);
                break;
            default: {
                two->pause();
                two->resume();
                if (!root.reset().ok()) {
                    std::abort();
                }
                break;
            }
        }
    }
    if (root.config_read(1, 0, 0, 4) != 0x1044'1af4) {
        std::abort();  // ids cannot be written
    }
    return 0;
}
