// Any JSON as Cinder's attachment (its connection_info) and volume, and as Glance's image.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "compute/clients/cinder_client.h"
#include "compute/clients/image_json.h"

using namespace kumoi;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto json = Json::parse(std::string_view(reinterpret_cast<const char*>(data), size));
    if (!json.ok()) {
        return 0;
    }
    const auto attachment = clients::parse_attachment(*json);
    if (attachment.ok() && !attachment->connection_info.is_object()) {
        std::abort();
    }
    (void)clients::parse_volume(*json).ok();
    if (const auto image = clients::parse_image(*json); image.ok()) {
        // An image becomes itself without a change; where a name comes twice it is told anew.
        if (clients::image_patch(*json, *image).size() > json->size()) {
            std::abort();
        }
        (void)clients::new_image_body(*image);
    }
    return 0;
}
