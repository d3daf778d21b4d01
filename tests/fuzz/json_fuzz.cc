// Any bytes into the JSON parser; what parses must come back the same through dump() and parse().
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto json = kumoi::Json::parse(text);
    if (!json.ok()) {
        return 0;
    }
    const std::string once = json->dump();
    const auto again = kumoi::Json::parse(once, {.size_max = SIZE_MAX});
    if (!again.ok() || again->dump() != once) {
        std::abort();
    }
    const kumoi::JsonView view(*json);
    (void)view.only({"server", "name"}).ok();
    (void)view.string_or("name", "").ok();
    (void)view.integer_or("count", 1, {1, 100}).ok();
    return 0;
}
