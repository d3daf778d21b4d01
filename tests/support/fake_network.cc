// FakeNetwork (compute_fakes.h).
#include <algorithm>

#include "tests/support/compute_fakes.h"

namespace kumoi::compute {

Result<std::vector<VifInfo>> FakeNetwork::allocate_for_instance(
    const RequestContext&, const Instance& instance,
    const std::vector<RequestedNetwork>& requested) {
    TRY(log_.enter("network.allocate"));
    std::vector<VifInfo> vifs;
    {
        const std::lock_guard lock(mutex_);
        auto& ports = ports_[instance.uuid];
        const size_t wanted = std::max<size_t>(1, requested.size());
        while (ports.size() < wanted) {
            ports.push_back(make_port());
        }
        vifs = ports;
        bound_[instance.uuid] = instance.host;
    }
    log_.leave();
    return vifs;
}

VifInfo FakeNetwork::make_port() {
    VifInfo vif;
    vif.port_id = fmt::format("{:08}-0000-4000-8000-000000000000", next_port_);
    vif.mac = fmt::format("fa:16:3e:00:00:{:02x}", next_port_ % 256);
    vif.network_id = "net";
    FixedIp ip;
    ip.address = fmt::format("10.0.0.{}", next_port_ % 250 + 2);
    ip.prefix_length = 24;
    vif.fixed_ips = {ip};
    ++next_port_;
    return vif;
}

Result<VifInfo> FakeNetwork::allocate_port_for_instance(const RequestContext&,
                                                        const Instance& instance,
                                                        const RequestedNetwork&) {
    TRY(log_.enter("network.allocate_port"));
    VifInfo vif;
    {
        const std::lock_guard lock(mutex_);
        vif = make_port();
        ports_[instance.uuid].push_back(vif);
    }
    log_.leave();
    return vif;
}

Result<void> FakeNetwork::deallocate_port_for_instance(const RequestContext&,
                                                       const Instance& instance,
                                                       const std::string& port_id) {
    TRY(log_.enter("network.deallocate_port"));
    {
        const std::lock_guard lock(mutex_);
        std::erase_if(ports_[instance.uuid],
                      [&](const VifInfo& vif) { return vif.port_id == port_id; });
    }
    log_.leave();
    return {};
}

Result<void> FakeNetwork::deallocate_for_instance(const RequestContext&, const Instance& instance) {
    TRY(log_.enter("network.deallocate"));
    {
        const std::lock_guard lock(mutex_);
        ports_.erase(instance.uuid);
        bound_.erase(instance.uuid);
    }
    log_.leave();
    return {};
}

Result<std::vector<VifInfo>> FakeNetwork::network_info(const std::string& instance_uuid) {
    const std::lock_guard lock(mutex_);
    const auto found = ports_.find(instance_uuid);
    return found == ports_.end() ? std::vector<VifInfo>() : found->second;
}

Result<void> FakeNetwork::rebind(const RequestContext&, const Instance& instance,
                                 const std::string& host) {
    TRY(log_.enter("network.rebind"));
    {
        const std::lock_guard lock(mutex_);
        std::string& bound = bound_[instance.uuid];
        if (bindings_[instance.uuid].erase(host) != 0) {
            bindings_[instance.uuid].insert(bound);
        }
        bound = host;
        migrating_to_.erase(instance.uuid);
    }
    log_.leave();
    return {};
}

Result<void> FakeNetwork::unbind(const RequestContext&, const Instance& instance) {
    TRY(log_.enter("network.unbind"));
    {
        const std::lock_guard lock(mutex_);
        bound_.erase(instance.uuid);
    }
    log_.leave();
    return {};
}

Result<void> FakeNetwork::set_migrating_to(const RequestContext&, const Instance& instance,
                                           const std::string&, const std::string& destination) {
    TRY(log_.enter("network.set_migrating_to"));
    {
        const std::lock_guard lock(mutex_);
        migrating_to_[instance.uuid] = destination;
    }
    log_.leave();
    return {};
}

Result<void> FakeNetwork::activate_bindings(const RequestContext&, const Instance& instance,
                                            const std::string& host) {
    TRY(log_.enter("network.activate_bindings"));
    {
        const std::lock_guard lock(mutex_);
        auto& others = bindings_[instance.uuid];
        if (others.erase(host) != 0) {
            others.insert(std::exchange(bound_[instance.uuid], host));
        }
    }
    log_.leave();
    return {};
}

Result<void> FakeNetwork::delete_bindings(const RequestContext&, const Instance& instance,
                                          const std::string& host) {
    TRY(log_.enter("network.delete_bindings"));
    {
        const std::lock_guard lock(mutex_);
        bindings_[instance.uuid].erase(host);
        if (bound_[instance.uuid] == host) {
            bound_[instance.uuid].clear();  // the port is down now
        }
    }
    log_.leave();
    return {};
}

void FakeNetwork::add_binding(const std::string& uuid, const std::string& host) {
    const std::lock_guard lock(mutex_);
    bindings_[uuid].insert(host);
}

std::set<std::string> FakeNetwork::bindings(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto found = bindings_.find(uuid);
    return found == bindings_.end() ? std::set<std::string>() : found->second;
}

std::string FakeNetwork::migrating_to(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto found = migrating_to_.find(uuid);
    return found == migrating_to_.end() ? "" : found->second;
}

std::string FakeNetwork::bound_to(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto found = bound_.find(uuid);
    return found == bound_.end() ? "" : found->second;
}

void FakeNetwork::change_ports(const std::string& uuid,
                               const std::function<void(std::vector<VifInfo>& ports)>& change) {
    const std::lock_guard lock(mutex_);
    change(ports_[uuid]);
}

size_t FakeNetwork::port_count() const {
    const std::lock_guard lock(mutex_);
    size_t count = 0;
    for (const auto& [uuid, ports] : ports_) {
        count += ports.size();
    }
    return count;
}

}  // namespace kumoi::compute
