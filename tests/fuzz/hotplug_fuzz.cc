// Fuzzes the hot-plug hardware with hostile guests: the registers of PCI slots, processors and
// events in any order and width while devices come and go.

#include "base/clock.h"
#include "base/event_loop.h"
#include "hypervisor/board/cpu_hotplug.h"
#include "hypervisor/board/gpe_block.h"
#include "hypervisor/hotplug/device_hotplug.h"
#include "tests/fuzz/virtio_device_fuzz.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

class Part final : public PciDevice {
public:
    std::string name() const override { return "disk"; }
    uint32_t config_read(uint32_t offset, uint32_t width) override {
        return config_.read(offset, width);
    }
    void config_write(uint32_t offset, uint32_t width, uint32_t value) override {
        config_.write(offset, width, value);
    }
    void reset() override {}

private:
    PciConfigSpace config_{{.vendor = 0x1234, .device = 0x5678}};
};

void fuzz_registers(FuzzInput& input) {
    constexpr uint32_t kSlots = 0x7fff'fff8;
    ManualClock clock;
    EventLoop loop(clock);
    PlatformFake platform(1u << 20);
    PciDevices devices(platform, {});
    int answers = 0;
    int asked = 0;
    DeviceHotplug* hotplug = nullptr;
    PciHotplug slots(kSlots, {.changed = [] {},
                              .ejected =
                                  [&](uint32_t ejected) {
                                      loop.post([&, ejected] { hotplug->ejected(ejected); });
                                  }});
    DeviceHotplug control(loop, devices, slots,
                          {.event = [](const ControlEvent&) {},
                           .removed = [](const auto&) {},
                           .standstill = [](const auto& run) { return run(); }});
    hotplug = &control;
    uint32_t ejected_cpus = 0;
    CpuHotplug cpus(
        2, 8, {.changed = [] {}, .ejected = [&](uint32_t cpu) { ejected_cpus |= 1u << cpu; }});
    GpeBlock gpe([](bool) {});
    IoDevice* targets[] = {&slots, &cpus, &gpe};
    while (!input.empty()) {
        const auto opcode = input.take<uint8_t>();
        IoDevice& target = *targets[(opcode >> 4) % 3];
        switch (opcode & 7) {
            case 0:
            case 1: {
                const auto offset = input.take<uint8_t>();
                const auto bytes = input.bytes(size_t{1} << (opcode >> 6));
                target.io_write(offset,
                                {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
                break;
            }
            case 2: {
                std::vector<uint8_t> data(size_t{1} << (opcode >> 6));
                target.io_read(input.take<uint16_t>(), data);
                break;
            }
            case 3:
                static_cast<void>(control.add({3u + opcode % 28u, 0}, std::make_unique<Part>()));
                break;
            case 4:
                ++asked;
                control.remove("disk", 10, [&](const Result<Json>&) { ++answers; });
                break;
            case 5:
                clock.advance(input.take<uint8_t>() * kNanosPerMilli);
                loop.run_ready();
                break;
            case 6: cpus.insert(opcode % 8u); break;
            default: opcode > 127 ? control.reset() : gpe.raise(opcode % 16u); break;
        }
    }
    clock.advance(1000 * kNanosPerMilli);
    loop.run_ready();
    if (answers != asked || (ejected_cpus & 1) != 0) {
        std::abort();  // every request is answered once; the first processor stays
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzInput input(data, size);
    fuzz_registers(input);
    return 0;
}
