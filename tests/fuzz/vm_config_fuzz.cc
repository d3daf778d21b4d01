// Any text as guest.json: refused with an error, or a machine within its bounds.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "hypervisor/vm_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace kumoi;
    const auto json = Json::parse(std::string_view(reinterpret_cast<const char*>(data), size));
    if (!json) {
        return 0;
    }
    const auto config = hypervisor::parse_vm_config(*json, "/base");
    if (!config) {
        if (config.error().message.empty()) {
            std::abort();
        }
        return 0;
    }
    const bool sound = config->vcpus >= 1 && config->memory_mib >= 2 &&
                       config->boot.kernel.starts_with('/') && config->disks.size() <= 20 &&
                       config->nics.size() <= 8;
    if (!sound) {
        std::abort();
    }
    return 0;
}
