// Fuzzes the memory balloon with hostile chains: page numbers, statistics, reports, hints.

#include "hypervisor/virtio/balloon.h"
#include "tests/fuzz/virtio_device_fuzz.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static PlatformFake platform;
    static ManualClock clock;
    FuzzInput input(data, size);
    const auto options = input.take<uint8_t>();
    VirtioBalloon device({.deflate_on_oom = (options & 1) != 0,
                          .free_page_reporting = (options & 2) != 0,
                          .statistics_interval_ms = (options & 4) != 0 ? 100 : 0},
                         platform.memory(), clock);
    if (device.set_target(17).ok() || !device.set_target(options % 17).ok()) {
        std::abort();  // the guest has 16 MiB
    }
    device.request_statistics();
    // Once a driver is there; config[8] tells the number that hints must come with.
    FreePages marks(platform.memory().file_pages());
    const bool asked = (options & 8) != 0;
    fuzz_device(device, platform, input, [&] {
        if (asked && device.begin(marks) && !device.available()) {
            std::abort();
        }
    });
    device.end();
    if (!asked && device.progress().pages != 0) {
        std::abort();
    }
    return 0;
}
