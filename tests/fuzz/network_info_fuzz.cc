// Any text as network_info: what parses must come back the same once Nova's text was made of it.
// And any JSON as Neutron's port and as the records around it.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "compute/clients/vif_json.h"

using namespace kumoi;

namespace {

void build_from(const Json& json) {
    clients::NeutronRecords records;
    const auto take = [&](const char* name, Json::Array& into) {
        if (const Json* list = json.find(name); list != nullptr && list->is_array()) {
            into = list->as_array();
        }
    };
    take("networks", records.networks);
    take("subnets", records.subnets);
    take("dhcp_ports", records.dhcp_ports);
    take("floatingips", records.floating_ips);
    if (const Json* port = json.find("port")) {
        const auto vif = clients::build_vif(*port, records, {});
        if (vif.ok() && !clients::parse_vif(*vif).ok()) {
            std::abort();  // ours must be readable
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto vifs = clients::parse_network_info(text);
    if (vifs.ok()) {
        const std::string once = clients::network_info_text(*vifs);
        const auto again = clients::parse_network_info(once);
        if (!again.ok() || clients::network_info_text(*again) != once) {
            std::abort();
        }
    }
    if (const auto json = Json::parse(text); json.ok()) {
        build_from(*json);
    }
    return 0;
}
