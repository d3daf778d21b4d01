// RequestSpec: what a new server needs of a host, taken from its flavor and its request. A plain
// value; memory in MiB, disk in GiB (root, ephemeral and swap together, rounded up).
#pragma once

#include <cstdint>
#include <set>
#include <string>

namespace kumoi::scheduler {

enum class GroupPolicy { None, Affinity, AntiAffinity, SoftAffinity, SoftAntiAffinity };

struct RequestSpec {
    std::string server_id;
    int64_t vcpus = 0;
    int64_t memory_mb = 0;
    int64_t disk_gb = 0;
    std::string availability_zone;  // empty: any
    std::string requested_host;     // empty: any; "--host" or "zone:host"
    std::string requested_node;
    std::set<std::string> ignored_hosts;  // where this build failed already
    GroupPolicy group_policy = GroupPolicy::None;
    std::multiset<std::string> group_hosts;  // one entry per other member that has a host
    int64_t group_servers_per_host_max = 1;  // rule max_server_per_host, for anti-affinity
};

}  // namespace kumoi::scheduler
