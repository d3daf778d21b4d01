// Any bytes as a file of PlanetLab traces, plain or .xz: read to its end or refused, in bounds.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "sim/planetlab/trace_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const int file = ::memfd_create("traces", MFD_CLOEXEC);
    if (file < 0 || ::write(file, data, size) != static_cast<ssize_t>(size)) {
        std::abort();
    }
    const std::string path = "/proc/self/fd/" + std::to_string(file);
    const auto days = kumoi::sim::list_trace_days(path);
    if (days.ok() && !days->empty()) {
        const auto loaded = kumoi::sim::load_trace_days(path, *days);
        if (loaded.ok() && (loaded->size() != days->size() || loaded->front().traces.empty())) {
            std::abort();
        }
    }
    ::close(file);
    return 0;
}
