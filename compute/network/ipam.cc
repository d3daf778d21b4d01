#include "compute/network/ipam.h"

#include <algorithm>

namespace kumoi::compute {
namespace {

constexpr int kRandomTries = 16;
constexpr uint64_t kScanCountMax = 1u << 20;  // of addresses, when random tries all failed

Error invalid_input(const std::string& what) {
    return Error::invalid("Invalid input for operation: {}.", what).with_fault("InvalidInput");
}

std::string pool_text(const AllocationPool& pool) {
    return pool.start + "-" + pool.end;
}

struct Range {
    IpAddress first;
    IpAddress last;
};

Result<Range> parse_pool(const IpNetwork& network, const AllocationPool& pool) {
    const auto first = IpAddress::parse(pool.start);
    const auto last = IpAddress::parse(pool.end);
    if (!first || !last || first->version() != network.version() ||
        last->version() != network.version() || *last < *first) {
        return Error::invalid("The allocation pool {} is not valid.", pool_text(pool))
            .with_fault("InvalidAllocationPool");
    }
    if (!usable_in(network, *first) || !usable_in(network, *last)) {
        return Error::invalid("The allocation pool {} spans beyond the subnet cidr {}.",
                              pool_text(pool), network.text())
            .with_fault("OutOfBoundsAllocationPool");
    }
    return Range{*first, *last};
}

}  // namespace

Result<IpNetwork> parse_subnet_cidr(const std::string& cidr, int ip_version) {
    if (ip_version != 4 && ip_version != 6) {
        return invalid_input("ip_version must be 4 or 6, got " + std::to_string(ip_version));
    }
    const auto network = IpNetwork::parse(cidr);
    if (!network || cidr.find('/') == std::string::npos) {
        return invalid_input("'" + cidr + "' is not a valid IP subnet");
    }
    if (network->version() != ip_version) {
        return invalid_input(
            fmt::format("Cannot use cidr {} with ip_version {}", cidr, ip_version));
    }
    const int host_bits = network->address().bits() - network->prefix_length();
    if (host_bits < 2 || network->prefix_length() < (ip_version == 4 ? 8 : 16)) {
        return invalid_input(
            fmt::format("Subnet {} must have a prefix length of {} to {}: smaller ones have no "
                        "address to give, "
                        "larger ones are a mistake",
                        cidr, ip_version == 4 ? 8 : 16, ip_version == 4 ? 30 : 126));
    }
    if (network->address().is_multicast() || network->address().is_loopback() ||
        network->address().is_link_local() || network->address().is_unspecified()) {
        return invalid_input("'" + cidr + "' is reserved and cannot be a subnet");
    }
    return *network;
}

bool usable_in(const IpNetwork& network, const IpAddress& address) {
    if (!network.contains(address) || address == network.address()) {
        return false;
    }
    return network.version() == 6 || address != network.last();
}

Result<void> check_gateway(const IpNetwork& network, const std::string& gateway) {
    const auto address = IpAddress::parse(gateway);
    if (!address) {
        return invalid_input("'" + gateway + "' is not a valid IP address");
    }
    // An IPv6 gateway is often the router's link-local address.
    const bool link_local = address->version() == 6 && address->is_link_local();
    if (address->version() != network.version() || (!link_local && !usable_in(network, *address))) {
        return invalid_input("Gateway is not valid on subnet " + network.text());
    }
    return {};
}

Result<void> check_pools(const IpNetwork& network, const std::vector<AllocationPool>& pools) {
    std::vector<std::pair<Range, const AllocationPool*>> ranges;
    for (const AllocationPool& pool : pools) {
        ranges.emplace_back(TRY(parse_pool(network, pool)), &pool);
    }
    std::sort(ranges.begin(), ranges.end(), [](const auto& left, const auto& right) {
        return left.first.first < right.first.first;
    });
    for (size_t i = 1; i < ranges.size(); ++i) {
        if (!(ranges[i - 1].first.last < ranges[i].first.first)) {
            return Error::conflict("Found overlapping allocation pools: {} {} for subnet {}.",
                                   pool_text(*ranges[i - 1].second), pool_text(*ranges[i].second),
                                   network.text())
                .with_fault("OverlappingAllocationPools");
        }
    }
    return {};
}

Result<void> check_gateway_outside_pools(const std::vector<AllocationPool>& pools,
                                         const std::optional<std::string>& gateway) {
    const auto address = IpAddress::parse(gateway.value_or(""));
    for (const AllocationPool& pool : pools) {
        const auto first = IpAddress::parse(pool.start);
        const auto last = IpAddress::parse(pool.end);
        if (address && first && last && *first <= *address && *address <= *last) {
            return Error::conflict("Gateway ip {} conflicts with allocation pool {}.", *gateway,
                                   pool_text(pool))
                .with_fault("GatewayConflictWithAllocationPools");
        }
    }
    return {};
}

Result<void> check_dns_and_routes(int ip_version, const std::vector<std::string>& dns_servers,
                                  const std::vector<HostRoute>& routes) {
    for (const std::string& server : dns_servers) {
        const auto address = IpAddress::parse(server);
        if (!address || address->version() != ip_version) {
            return invalid_input(fmt::format("'{}' is not a valid IPv{} address of a nameserver",
                                             server, ip_version));
        }
    }
    for (const HostRoute& route : routes) {
        const auto destination = IpNetwork::parse(route.destination);
        const auto next_hop = IpAddress::parse(route.next_hop);
        if (!destination || !next_hop || destination->version() != ip_version ||
            next_hop->version() != ip_version) {
            return invalid_input(fmt::format("'{} via {}' is not a valid IPv{} route",
                                             route.destination, route.next_hop, ip_version));
        }
    }
    return {};
}

std::string default_gateway(const IpNetwork& network) {
    return network.address().plus(1)->text();
}

std::vector<AllocationPool> default_pools(const IpNetwork& network,
                                          const std::optional<std::string>& gateway) {
    IpAddress first = *network.address().plus(1);
    IpAddress last = network.last();
    if (network.version() == 4) {
        last = IpAddress::from_ipv4(last.ipv4() - 1);
    }
    const auto hole = IpAddress::parse(gateway.value_or(""));
    if (!hole || !network.contains(*hole)) {
        return {{first.text(), last.text()}};
    }
    std::vector<AllocationPool> pools;
    if (first < *hole) {
        // Stepping back one: the address before the hole, counted from the first.
        pools.push_back({first.text(), first.plus(address_count(first, *hole) - 2)->text()});
    }
    if (*hole < last) {
        pools.push_back({hole->plus(1)->text(), last.text()});
    }
    return pools;
}

Result<std::optional<IpAddress>> pick_address(
    const std::vector<AllocationPool>& pools, Random& random,
    const std::function<Result<bool>(const IpAddress&)>& is_free) {
    std::vector<std::pair<IpAddress, uint64_t>> ranges;
    uint64_t total = 0;
    for (const AllocationPool& pool : pools) {
        const auto first = IpAddress::parse(pool.start);
        const auto last = IpAddress::parse(pool.end);
        if (!first || !last) {
            return Error::corrupt("Allocation pool {} is stored wrongly", pool_text(pool));
        }
        const uint64_t count = std::min(address_count(*first, *last), uint64_t{1} << 48);
        ranges.emplace_back(*first, count);
        total += count;
    }
    const auto nth = [&](uint64_t index) {
        size_t range = 0;
        while (index >= ranges[range].second) {
            index -= ranges[range++].second;
        }
        return *ranges[range].first.plus(index);
    };
    for (int i = 0; i < kRandomTries && total != 0; ++i) {
        const IpAddress candidate = nth(random.below(total));
        if (TRY(is_free(candidate))) {
            return std::optional(candidate);
        }
    }
    for (uint64_t index = 0; index < std::min(total, kScanCountMax); ++index) {
        const IpAddress candidate = nth(index);
        if (TRY(is_free(candidate))) {
            return std::optional(candidate);
        }
    }
    return std::optional<IpAddress>();
}

std::string random_mac(Random& random) {
    const uint64_t value = random.next();
    return fmt::format("fa:16:3e:{:02x}:{:02x}:{:02x}", value & 0xff, value >> 8 & 0xff,
                       value >> 16 & 0xff);
}

IpAddress slaac_address(const IpNetwork& network, const std::string& mac) {
    const auto b = mac_bytes(mac);
    const auto& prefix = network.address().bytes();
    std::string text;
    for (size_t i = 0; i < 8; i += 2) {
        text += fmt::format("{:02x}{:02x}:", prefix[i], prefix[i + 1]);
    }
    text += fmt::format("{:02x}{:02x}:{:02x}ff:fe{:02x}:{:02x}{:02x}", b[0] ^ 2, b[1], b[2], b[3],
                        b[4], b[5]);
    return *IpAddress::parse(text);
}

}  // namespace kumoi::compute
