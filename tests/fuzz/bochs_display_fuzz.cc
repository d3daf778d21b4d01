// Fuzzes the display: registers and video memory through its BARs, BARs and ROM moved about, states
// of a hostile snapshot, and somebody who looks in between.

#include <cstdlib>
#include <cstring>

#include "hypervisor/display/bochs_display.h"
#include "hypervisor/display/screen.h"
#include "hypervisor/pci/pci_root.h"
#include "tests/fuzz/virtio_device_fuzz.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

void access(IoDevice& device, uint64_t offset, uint8_t opcode, uint64_t value) {
    uint8_t bytes[8];
    std::memcpy(bytes, &value, sizeof bytes);
    const auto part = std::span(bytes).first(size_t{1} << (opcode >> 4 & 3));
    if ((opcode & 8) != 0) {
        device.io_write(offset, part);
    } else {
        device.io_read(offset, part);
    }
}

void load_state(BochsDisplay& display, std::span<const std::byte> body) {
    if (auto state = SectionReader::parse("display", 1, body)) {
        (void)display.load(*state);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr int kActionsMax = 200;
    PlatformFake platform(2u << 20);
    auto display = BochsDisplay::create(platform, {.memory_bytes = 1u << 20,
                                                   .width = 64,
                                                   .height = 64,
                                                   .rom = std::string("\x55\xaa\x01", 3)})
                       .value();
    PciRoot root(platform, {.ecam_base = 0});
    root.add({2}, *display).value();
    root.assign_bars().value();
    root.attach().value();
    Screen screen(*display);
    FuzzInput input(data, size);
    int looks = 0;
    for (int action = 0; action < kActionsMax && !input.empty(); ++action) {
        const auto opcode = input.take<uint8_t>();
        switch (opcode & 7) {
            case 0:
            case 1:  // near the registers that mean something
                access(*display->bar(2), 0x500 + input.take<uint8_t>() % 32, opcode,
                       input.take<uint16_t>());
                break;
            case 2: access(*display->bar(2), input.take<uint16_t>(), opcode, ~0ull); break;
            case 3:
                access(*display->bar(0), input.take<uint32_t>(), opcode, input.take<uint64_t>());
                break;
            case 4:
                root.config_write(2, 0, input.take<uint8_t>(), 1u << (opcode >> 3 & 3) % 3,
                                  input.take<uint32_t>());
                break;
            case 5:
                if (++looks < 8) {
                    screen.refresh();
                }
                break;
            case 6: load_state(*display, input.bytes(input.take<uint8_t>())); break;
            default:
                if (!root.reset().ok()) {
                    std::abort();
                }
                break;
        }
    }
    const DisplayMode mode = display->mode();
    if (mode.width == 0 || mode.width > kDisplayWidthMax || mode.height > kDisplayHeightMax ||
        root.config_read(2, 0, 0, 4) != 0x1111'1234) {
        std::abort();
    }
    return 0;
}
