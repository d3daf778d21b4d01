// Nova's VIF JSON: what the info cache (network_info) and VIFMigrateData hold for one interface.
// build_vif() makes it from Neutron's port, network, subnets, DHCP ports and floating addresses
// with the same members and values as Nova; the parser turns it into a compute::VifInfo, which
// keeps the text in `raw`. Pure functions; hostile input gives an Error.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "compute/objects.h"

namespace kumoi::clients {

// Neutron's replies that concern one server; each an array as Neutron sends it.
struct NeutronRecords {
    Json::Array networks;
    Json::Array subnets;
    Json::Array dhcp_ports;
    Json::Array floating_ips;
};

struct VifBuildOptions {
    std::string ovs_bridge = "br-int";  // of ports whose details name none
    bool preserve_on_delete = false;    // the user's own port
};

Result<Json> build_vif(const Json& port, const NeutronRecords& records,
                       const VifBuildOptions& options);

Result<compute::VifInfo> parse_vif(const Json& vif);
// The text of network_info: a list of VIFs.
Result<std::vector<compute::VifInfo>> parse_network_info(std::string_view text);
// As parse_network_info() reads it, byte for byte as Nova writes it; `active` of each VifInfo wins
// over what its raw text says, and so do the node's own members (pci_slot, tag, detaching), which
// travel as meta.kumoi. A VIF without raw text is built from its plain members.
std::string network_info_text(const std::vector<compute::VifInfo>& vifs);
std::string vif_text(const compute::VifInfo& vif);  // of one, for VIFMigrateData.source_vif

}  // namespace kumoi::clients
