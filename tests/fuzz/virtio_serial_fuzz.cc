// Fuzzes the device of named ports with hostile chains; its host's ends come, go, are slow and have
// little to say.

#include "hypervisor/virtio/serial.h"
#include "tests/fuzz/virtio_device_fuzz.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

class Backend final : public ChannelBackend {
public:
    Result<void> start(EventLoop& loop, Events events) override {
        loop.call_after(1, [changed = events.connection_changed] { changed(); });
        loop.call_after(2, [ready = events.input_ready] { ready(); });
        loop.call_after(3, [ready = events.output_ready] { ready(); });
        return {};
    }
    void stop() override {}
    bool connected() const override { return ++asked_ % 3 != 0; }
    void set_input_enabled(bool /*enabled*/) override {}
    size_t read(std::span<std::byte> bytes) override {
        const size_t count = std::min<size_t>({bytes.size(), left_, 100});
        std::fill_n(bytes.begin(), count, std::byte{'i'});
        left_ -= count;
        return count;
    }
    bool has_room() const override { return ++asked_ % 5 != 0; }
    size_t write(std::span<const std::byte> bytes) override { return bytes.size() / 2; }

private:
    size_t left_ = 5000;
    mutable unsigned asked_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static PlatformFake platform;
    FuzzInput input(data, size);
    std::vector<SerialPort> ports;
    for (const char* name : {"org.qemu.guest_agent.0", "second"}) {
        ports.push_back({name, std::make_unique<Backend>()});
    }
    VirtioSerial device("channels", std::move(ports));
    fuzz_device(device, platform, input);
    return 0;
}
