#include "compute/conductor/placement.h"

#include <algorithm>

#include "base/log.h"

namespace kumoi::compute {
namespace {

scheduler::GroupPolicy group_policy(const std::string& policy) {
    if (policy == "affinity") {
        return scheduler::GroupPolicy::Affinity;
    }
    if (policy == "anti-affinity") {
        return scheduler::GroupPolicy::AntiAffinity;
    }
    if (policy == "soft-affinity") {
        return scheduler::GroupPolicy::SoftAffinity;
    }
    if (policy == "soft-anti-affinity") {
        return scheduler::GroupPolicy::SoftAntiAffinity;
    }
    return scheduler::GroupPolicy::None;
}

// `times`: 1 takes, -1 gives back.
void claim(std::vector<scheduler::HostState>& hosts, const std::string& name, const Flavor& flavor,
           int64_t times) {
    const auto host = std::ranges::find(hosts, name, &scheduler::HostState::host);
    if (host == hosts.end()) {
        return;
    }
    host->vcpus.claimed += times * flavor.vcpus;
    host->memory_mb.claimed += times * flavor.memory_mb;
    host->disk_gb.claimed += times * flavor_disk_gb(flavor);
}

}  // namespace

Placement::Session::Session(Placement& placement)
    : placement_(placement), lock_(placement.mutex_), hosts_(placement.host_states()) {}

Result<PickedHost> Placement::Session::pick(const scheduler::RequestSpec& spec) {
    const scheduler::Placement placement = placement_.scheduler_.select_destination(spec, hosts_);
    if (!placement.found()) {
        return scheduler::no_valid_host(placement.report, spec);
    }
    scheduler::HostState& chosen = hosts_[*placement.host_index];
    chosen.vcpus.claimed += spec.vcpus;
    chosen.memory_mb.claimed += spec.memory_mb;
    chosen.disk_gb.claimed += spec.disk_gb;
    chosen.server_count += 1;
    return PickedHost{chosen.host, chosen.node, chosen.availability_zone, placement.report.text()};
}

std::vector<scheduler::HostState> Placement::host_states() const {
    std::vector<scheduler::HostState> hosts;
    for (const ComputeNodeRecord& record : services_.nodes()) {
        const ComputeNode& node = record.node;
        const HostClaims claims = instances_.claims(node.host);
        const auto service = services_.find_service(node.host, "nova-compute");
        scheduler::HostState& host = hosts.emplace_back();
        host.host = node.host;
        host.node = node.hypervisor_hostname;
        host.availability_zone = aggregates_.zone_of(node.host);
        host.enabled = service && !service->disabled;
        host.disabled_reason = service ? service->disabled_reason.value_or("") : "not registered";
        host.up = service && service->up;
        host.down_reason = service ? service->down_reason : "";
        host.vcpus = {node.vcpus, 0, claims.vcpus, node.cpu_allocation_ratio};
        host.memory_mb = {node.memory_mb, node.memory_mb_reserved, claims.memory_mb,
                          node.ram_allocation_ratio};
        host.disk_gb = {node.local_gb, 0, claims.disk_gb, node.disk_allocation_ratio};
        host.server_count = claims.servers;
    }
    if (hosts.size() > 1) {
        count_moves(hosts);
    }
    return hosts;
}

void Placement::count_moves(std::vector<scheduler::HostState>& hosts) const {
    const auto moves = migrations_.under_way();
    if (!moves.ok()) {
        log_error("conductor", "moves between hosts are not counted",
                  {{"why", moves.error().text()}});
        return;
    }
    for (const MigrationRecord& move : *moves) {
        const InstancePtr stored = instances_.find(move.instance_uuid);
        if (stored == nullptr) {
            continue;
        }
        const Instance& server = stored->instance;
        const bool arrived = server.host == move.dest_compute;
        const Flavor* other = other_flavor(server);
        if (other != nullptr) {  // counted where the server is, and held at the other end
            claim(hosts, server.host, *other, -1);
            claim(hosts, arrived ? move.source_compute : move.dest_compute, *other, 1);
        } else if (!arrived) {
            claim(hosts, move.dest_compute, server.flavor, 1);
        }
    }
}

scheduler::RequestSpec Placement::request_spec(const Instance& instance,
                                               const std::string& group_uuid) const {
    scheduler::RequestSpec spec;
    spec.server_id = instance.uuid;
    spec.vcpus = instance.flavor.vcpus;
    spec.memory_mb = instance.flavor.memory_mb;
    spec.disk_gb = flavor_disk_gb(instance.flavor);
    spec.availability_zone = instance.pinned_availability_zone.value_or("");
    const auto group =
        group_uuid.empty() ? Result<ServerGroup>(ServerGroup()) : groups_.get(group_uuid);
    if (group.ok()) {
        spec.group_policy = group_policy(group->policy);
        spec.group_servers_per_host_max = std::max<int64_t>(1, group->servers_per_host_max);
        for (const std::string& member : group->members) {
            const InstancePtr other = instances_.find(member);
            if (other != nullptr && member != instance.uuid && !other->instance.host.empty()) {
                spec.group_hosts.insert(other->instance.host);
            }
        }
    }
    return spec;
}

}  // namespace kumoi::compute
