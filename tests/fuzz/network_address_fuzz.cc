// Addresses, CIDR blocks and MACs as tenants write them, and what is made of them: whatever parses
// must survive a round trip and must never reach the packet filter's text as anything else.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "compute/network/dhcp_server.h"
#include "compute/network/firewall_rules.h"
#include "compute/network/ip_address.h"
#include "compute/network/ipam.h"

using namespace kumoi::compute;  // NOLINT: a fuzz target of that namespace

namespace {

// nft text is built from checked values only: no character that could end a rule or start another.
void check_rule_text(const std::string& text) {
    KUMOI_ASSERT(text.find_first_of("\n;{}\"'#\\") == std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    if (const auto address = IpAddress::parse(text)) {
        KUMOI_ASSERT(IpAddress::parse(address->text()) == address);
    }
    if (const auto network = IpNetwork::parse(text)) {
        KUMOI_ASSERT(IpNetwork::parse(network->text()) == network);
        KUMOI_ASSERT(network->contains(network->address()));
        KUMOI_ASSERT(network->contains(network->last()));
        (void)default_pools(*network, std::nullopt);
        (void)check_pools(*network, {{text, text}});
    }
    if (const auto mac = parse_mac(text)) {
        KUMOI_ASSERT(parse_mac(*mac) == mac);
        (void)link_local_address(*mac);
    }
    for (const int version : {4, 6}) {
        const auto cidr = parse_subnet_cidr(text, version);
        if (cidr.ok()) {
            KUMOI_ASSERT(address_count(cidr->address(), cidr->last()) >= 4);
        }
        SecurityRule rule;
        rule.ip_version = version;
        rule.remote_prefix = text;
        check_rule_text(render_security_rule(rule));
    }
    FirewallPort port;
    port.port.mac = "fa:16:3e:00:00:01";
    port.port.addresses = {text};
    const std::string plain = render_port(FirewallPort{port.port, "kt"});
    KUMOI_ASSERT(IpNetwork::parse(text) || plain.find("drop") != std::string::npos);
    (void)without_stale_leases(text, {{"fa:16:3e:00:00:01", "10.0.0.5", "h"}});
    return 0;
}
