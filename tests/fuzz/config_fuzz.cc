// Any bytes into the INI reader; accepted values must satisfy their declared types.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "compute/options.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto config = kumoi::Config::parse(text, kumoi::compute::options());
    if (!config.ok()) {
        return 0;
    }
    const int64_t builds = config->integer("DEFAULT", "max_concurrent_builds");
    if (builds < 1 || builds > 1000) {
        std::abort();
    }
    (void)config->boolean("DEFAULT", "debug");
    (void)config->floating("DEFAULT", "cpu_allocation_ratio");
    (void)config->list("network", "dns_servers");
    return 0;
}
