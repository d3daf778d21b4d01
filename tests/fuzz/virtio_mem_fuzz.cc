// Fuzzes virtio-mem with hostile requests. What it holds plugged is never more than was requested
// when it was plugged, and the memory behind it is only asked for what makes sense.

#include "hypervisor/virtio/mem.h"
#include "tests/fuzz/virtio_device_fuzz.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

constexpr uint32_t kBlocks = 37;  // not a multiple of eight
constexpr uint64_t kBlockSize = 2u << 20;

void require(bool condition) {
    if (!condition) {
        std::abort();
    }
}

class Blocks final : public HotMemory {
public:
    explicit Blocks(uint32_t failing) : failing_(failing) {}
    uint64_t base() const override { return uint64_t{4} << 30; }
    uint64_t block_size() const override { return kBlockSize; }
    uint32_t block_count() const override { return kBlocks; }
    Result<void> plug(uint32_t block, HotContent /*content*/) override {
        require(block < kBlocks && !plugged_[block]);
        if (block == failing_) {
            return Error::exhausted("as the fuzzer wants");
        }
        plugged_[block] = true;
        ++count_;
        return {};
    }
    Result<void> unplug(uint32_t block) override {
        require(block < kBlocks && plugged_[block]);
        if (block + 1 == failing_) {
            return Error::unavailable("as the fuzzer wants");
        }
        plugged_[block] = false;
        --count_;
        return {};
    }
    uint64_t bytes() const { return count_ * kBlockSize; }

private:
    const uint32_t failing_;
    std::array<bool, kBlocks> plugged_{};
    uint64_t count_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static PlatformFake platform;
    FuzzInput input(data, size);
    Blocks blocks(input.take<uint8_t>());
    const uint64_t requested = input.take<uint8_t>() % (kBlocks + 1) * kBlockSize;
    VirtioMem* self = nullptr;
    VirtioMem device("memory", blocks, 0, [&](VirtioMem::Sizes sizes) {
        require(sizes.plugged == blocks.bytes() && sizes.plugged <= requested);
        require(self->sizes().plugged == sizes.plugged);
    });
    self = &device;
    require(device.set_requested_size(requested).ok());
    require(!device.set_requested_size(requested + 1).ok());
    fuzz_device(device, platform, input);
    require(device.sizes().plugged == blocks.bytes());
    return 0;
}
