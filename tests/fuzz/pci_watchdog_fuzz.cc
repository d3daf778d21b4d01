// Fuzzes the watchdog and pvpanic: registers in any order and width, time, pauses, resets, and the
// watchdog's saved state.

#include <cstdlib>

#include "hypervisor/pci/i6300esb.h"
#include "hypervisor/pci/pci_root.h"
#include "hypervisor/pci/pvpanic.h"
#include "tests/fuzz/virtio_device_fuzz.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr int kActionsMax = 300;
    PlatformFake platform(1u << 20);
    ManualClock clock;
    EventLoop loop(clock);
    uint64_t expired = 0;
    int64_t passed_ms = 0;
    I6300Esb watchdog(loop, clock, [&] { ++expired; });
    PvPanic pvpanic({[] {}, [] {}});
    PciRoot root(platform, {});
    root.add({1, 0}, pvpanic).value();
    root.add({1, 4}, watchdog).value();
    root.assign_bars().value();
    FuzzInput input(data, size);
    for (int action = 0; action < kActionsMax && !input.empty(); ++action) {
        const auto opcode = input.take<uint8_t>();
        uint8_t bytes[8] = {};
        const auto part = std::span(bytes).first(size_t{1} << (opcode >> 3 & 3));
        const unsigned function = (opcode & 0x80) != 0 ? 0 : 4;
        const uint64_t base = root.bar_address({1, function}, 0);
        switch (opcode & 7) {
            case 0: platform.mmio_bus().read(base + input.take<uint8_t>() % 16, part); break;
            case 1: {
                const auto at = input.take<uint8_t>() % 16;
                const auto value = input.take<uint64_t>();
                std::copy_n(reinterpret_cast<const uint8_t*>(&value), part.size(), part.begin());
                platform.mmio_bus().write(base + at, part);
                break;
            }
            case 2: {  // unlock, then a register
                for (const uint8_t key : {0x80, 0x86}) {
                    const uint8_t word[2] = {key, 0};
                    platform.mmio_bus().write(base + 12, word);
                }
                break;
            }
            case 3:
                root.config_write(1, function, 0x60 + input.take<uint8_t>() % 12, 1,
                                  input.take<uint8_t>());
                break;
            case 4: {
                const auto ms = input.take<uint16_t>();
                passed_ms += ms;
                clock.advance(ms * kNanosPerMilli);
                loop.run_ready();
                break;
            }
            case 5: watchdog.pause(); break;
            case 6: watchdog.resume(); break;
            default: {
                SectionWriter out("watchdog", 1);
                watchdog.save(out);
                auto in = SectionReader::parse(out).value();
                if (!watchdog.load(in).ok()) {
                    std::abort();  // what it saves it must take
                }
                auto hostile = SectionReader::parse("watchdog", 1, input.bytes(64));
                if (hostile.ok()) {
                    (void)watchdog.load(*hostile);
                }
                break;
            }
        }
    }
    if (expired > static_cast<uint64_t>(passed_ms) / 100 + 1) {
        std::abort();  // two stages of at least 100 ms each
    }
    return 0;
}
