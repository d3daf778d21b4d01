// clouds.yaml may come from anywhere: the parser answers, whatever the bytes.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "api/cli/yaml.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto parsed =
        kumoi::cli::parse_yaml(std::string_view(reinterpret_cast<const char*>(data), size));
    if (parsed.ok()) {
        static_cast<void>(parsed.value().dump());
    }
    return 0;
}
