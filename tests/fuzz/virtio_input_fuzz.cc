// Fuzzes keyboard and tablet with hostile chains on both queues while keys and positions come, and
// loads hostile states.

#include "hypervisor/virtio/input.h"
#include "tests/fuzz/virtio_device_fuzz.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

// Presses keys whenever the configuration is looked at, which the driver's actions do.
class BusyKeyboard final : public VirtioInput, public KeySink {
public:
    BusyKeyboard() : VirtioInput("keyboard", "busy") {}
    bool ready() const override { return running(); }
    void key(uint16_t code, bool down) override {
        report({{1, code, down ? 1u : 0u}}, down ? Keep::MayDrop : Keep::Always);
    }
    void write_config(uint32_t offset, std::span<const uint8_t> bytes) override {
        VirtioInput::write_config(offset, bytes);
        key(static_cast<uint16_t>(offset), (bytes[0] & 1) != 0);
    }

private:
    std::vector<uint8_t> event_bits(uint8_t type) const override { return {type}; }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static PlatformFake platform;
    if (size == 0) {
        return 0;
    }
    if ((data[0] & 1) != 0) {
        VirtioTablet tablet("tablet");
        const auto body = std::as_bytes(std::span(data + 1, size - 1));
        if (auto state = SectionReader::parse("device", 1, body)) {
            (void)tablet.load(*state);
        }
        FuzzInput input(data + 1, size - 1);
        fuzz_device(tablet, platform, input);
        return 0;
    }
    FuzzInput input(data + 1, size - 1);
    BusyKeyboard keyboard;
    fuzz_device(keyboard, platform, input);
    return 0;
}
