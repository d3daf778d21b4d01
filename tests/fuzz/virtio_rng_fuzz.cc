// Fuzzes the entropy device with hostile chains.

#include "hypervisor/virtio/rng.h"
#include "tests/fuzz/virtio_device_fuzz.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static PlatformFake platform;
    static SeededRandom random(1);
    FuzzInput input(data, size);
    VirtioRng device("rng0", random);
    fuzz_device(device, platform, input);
    return 0;
}
