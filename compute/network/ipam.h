// Address management rules that need no database: what makes a subnet valid, which addresses it may
// give out, and in which order they are tried. Pure functions; errors carry Neutron's exception
// names.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "compute/network/ip_address.h"
#include "compute/network/network_objects.h"

namespace kumoi::compute {

// Checks CIDR and IP version; the result has no host bits.
Result<IpNetwork> parse_subnet_cidr(const std::string& cidr, int ip_version);
Result<void> check_gateway(const IpNetwork& network, const std::string& gateway);
Result<void> check_pools(const IpNetwork& network, const std::vector<AllocationPool>& pools);
Result<void> check_gateway_outside_pools(const std::vector<AllocationPool>& pools,
                                         const std::optional<std::string>& gateway);
Result<void> check_dns_and_routes(int ip_version, const std::vector<std::string>& dns_servers,
                                  const std::vector<HostRoute>& routes);
// Everything but network, broadcast (IPv4) and gateway address.
std::vector<AllocationPool> default_pools(const IpNetwork& network,
                                          const std::optional<std::string>& gateway);
std::string default_gateway(const IpNetwork& network);
// May a port have this address of the subnet? Not network or broadcast address.
bool usable_in(const IpNetwork& network, const IpAddress& address);

// The first address of the pools that `is_free` accepts: a few random tries, so that an address
// is not used again at once and callers rarely meet, then every address in order. nullopt: full.
// Errors of `is_free` end the search.
Result<std::optional<IpAddress>> pick_address(
    const std::vector<AllocationPool>& pools, Random& random,
    const std::function<Result<bool>(const IpAddress&)>& is_free);

// fa:16:3e and three random bytes, as Neutron's base_mac default.
std::string random_mac(Random& random);
// The address a guest gives itself in this /64 (RFC 4862, modified EUI-64).
IpAddress slaac_address(const IpNetwork& network, const std::string& mac);

}  // namespace kumoi::compute
