// Fuzzes the console with hostile chains; the backend takes little and has little to say.

#include "hypervisor/virtio/console.h"
#include "tests/fuzz/virtio_device_fuzz.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

class Backend final : public ConsoleBackend {
public:
    Result<void> start(EventLoop& /*loop*/, std::function<void()> /*input_ready*/) override {
        return {};
    }
    void stop() override {}
    void set_input_enabled(bool /*enabled*/) override {}
    size_t write(std::span<const std::byte> bytes) override { return bytes.size() / 2; }
    size_t read(std::span<std::byte> bytes) override {
        const size_t count = std::min<size_t>({bytes.size(), left_, 100});
        std::fill_n(bytes.begin(), count, std::byte{'i'});
        left_ -= count;
        return count;
    }

private:
    size_t left_ = 5000;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static PlatformFake platform;
    FuzzInput input(data, size);
    VirtioConsole device("console0", std::make_unique<Backend>(), 80, 25);
    fuzz_device(device, platform, input);
    return 0;
}
