// Networks, subnets, ports and security groups as Neutron's API speaks of them: plain values, and
// the requests that make or change them. Times are wall-clock nanoseconds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "compute/network/node_records.h"

namespace kumoi::compute {

// What every record has.
struct NetworkRecordBase {
    std::string id;
    std::string project_id;
    std::string name;
    std::string description;
    int64_t created_ns = 0;
    int64_t updated_ns = 0;
    int64_t revision = 0;
    std::vector<std::string> tags;
};

struct Network : NetworkRecordBase {
    bool admin_state_up = true;
    bool shared = false;
    bool port_security = true;
    int64_t mtu = 1500;
    std::vector<std::string> subnet_ids;
};

struct NetworkUpdate {
    std::optional<std::string> name;
    std::optional<std::string> description;
    std::optional<bool> admin_state_up;
    std::optional<bool> shared;
    std::optional<bool> port_security;
    std::optional<int64_t> mtu;
};

struct NetworkCreate {
    std::string project_id;
    NetworkUpdate values;
};

struct AllocationPool {
    std::string start;
    std::string end;
    bool operator==(const AllocationPool&) const = default;
};

struct HostRoute {
    std::string destination;
    std::string next_hop;
    bool operator==(const HostRoute&) const = default;
};

struct Subnet : NetworkRecordBase {
    std::string network_id;
    int ip_version = 4;
    std::string cidr;
    std::optional<std::string> gateway_ip;
    bool enable_dhcp = true;
    std::vector<AllocationPool> allocation_pools;
    std::vector<std::string> dns_nameservers;
    std::vector<HostRoute> host_routes;
    std::optional<std::string> ipv6_ra_mode;
    std::optional<std::string> ipv6_address_mode;
};

struct SubnetUpdate {
    std::optional<std::string> name;
    std::optional<std::string> description;
    std::optional<std::optional<std::string>> gateway_ip;  // inner nullopt: no gateway
    std::optional<bool> enable_dhcp;
    std::optional<std::vector<AllocationPool>> allocation_pools;
    std::optional<std::vector<std::string>> dns_nameservers;
    std::optional<std::vector<HostRoute>> host_routes;
};

struct SubnetCreate {
    std::string project_id;
    std::string network_id;
    int ip_version = 4;
    std::string cidr;
    std::optional<std::string> ipv6_ra_mode;
    std::optional<std::string> ipv6_address_mode;
    SubnetUpdate values;  // gateway absent: the first address
};

struct PortAddress {
    std::string subnet_id;
    std::string ip_address;
    bool operator==(const PortAddress&) const = default;
};

struct Port : NetworkRecordBase {
    std::string network_id;
    std::string mac_address;
    bool admin_state_up = true;
    std::string status;  // ACTIVE, BUILD, DOWN
    std::string device_id;
    std::string device_owner;
    std::string host_id;
    std::string vnic_type = "normal";
    std::string profile = "{}";  // JSON object, opaque
    bool port_security = true;
    bool created_by_nova = false;
    std::vector<PortAddress> fixed_ips;
    std::vector<AddressPair> allowed_address_pairs;
    std::vector<std::string> security_group_ids;
};

// Either or both; both empty asks for any address.
struct FixedIpRequest {
    std::optional<std::string> subnet_id;
    std::optional<std::string> ip_address;
};

struct PortUpdate {
    std::optional<std::string> name;
    std::optional<std::string> description;
    std::optional<std::string> mac_address;
    std::optional<bool> admin_state_up;
    std::optional<std::string> device_id;
    std::optional<std::string> device_owner;
    std::optional<std::string> host_id;
    std::optional<std::string> vnic_type;
    std::optional<std::string> profile;
    std::optional<bool> port_security;
    std::optional<std::vector<FixedIpRequest>> fixed_ips;
    std::optional<std::vector<AddressPair>> allowed_address_pairs;
    std::optional<std::vector<std::string>> security_group_ids;
};

struct PortCreate {
    std::string project_id;
    std::string network_id;
    PortUpdate values;
    bool created_by_nova = false;
};

struct SecurityGroupRule : SecurityRule {
    std::string project_id;
    std::string security_group_id;
    std::string description;
    int64_t created_ns = 0;
};

struct SecurityGroup : NetworkRecordBase {
    bool stateful = true;
    std::vector<SecurityGroupRule> rules;
};

// What a list is narrowed to before it leaves the database; empty lists narrow nothing.
struct RecordFilter {
    std::vector<std::string> ids;
    std::vector<std::string> project_ids;
    std::vector<std::string> network_ids;
    std::vector<std::string> device_ids;
    std::vector<std::string> security_group_ids;
};

}  // namespace kumoi::compute
