#include "api/nova/node_records.h"

#include "api/nova/oslo_context.h"
#include "base/log.h"

namespace kumoi::nova {
namespace {

constexpr char kBinary[] = "nova-compute";
constexpr char kPingWords[] = "1.21 GigaWatts";

void set_if_changed(NovaObject& object, std::string_view field, Json value) {
    const Json* now = object.get(field);
    if (now == nullptr || !(*now == value)) {
        object.set(field, std::move(value));
    }
}

// One kind of guest: hardware virtualisation of x86_64.
Json supported_specs(const ObjectTable& table) {
    NovaObject spec = NovaObject::make(table, "HVSpec");
    spec.set("arch", "x86_64");
    spec.set("hv_type", "kvm");
    spec.set("vm_mode", "hvm");
    Json specs = Json::array();
    specs.push_back(spec.primitive());
    return specs;
}

bool is_absent(const Error& error) {
    return error.code == ErrorCode::NotFound || error.fault == "ComputeHostNotFound" ||
           error.fault == "HostBinaryNotFound";
}

}  // namespace

Result<void> ping_conductor(ObjectClient& objects, const Clock& clock, Random& random,
                            int64_t timeout_ms) {
    amqp::Target target;
    target.topic = "conductor";
    target.namespace_ = "baseapi";
    target.version = "1.0";
    amqp::CallOptions options;
    options.timeout_ms = timeout_ms;
    TRY(objects.rpc().call(target, admin_context(clock, random), "ping",
                           Json::object({{"arg", kPingWords}}), options));
    return {};
}

Json NodeRecords::context() {
    return admin_context(clock_, random_);
}

Result<std::optional<std::string>> NodeRecords::recorded_uuid(
    const std::optional<std::string>& own_uuid) {
    const Json newest = TRY(objects_.class_action(context(), "Service", "get_minimum_version",
                                                  text_arguments({kBinary})));
    const int64_t lowest = newest.to_int64().value_or(0);
    const ReleaseFacts& facts = facts_of(options_.release);
    if (lowest != 0 && lowest < facts.service_floor) {
        log_warn("nova", "this deployment has computes older than the release supports",
                 {{"version", lowest}, {"floor", facts.service_floor}});
    }
    auto record =
        objects_.class_object(context(), "ComputeNode", "get_by_host_and_nodename",
                              text_arguments({options_.host, options_.hypervisor_hostname}));
    if (!record.ok()) {
        return is_absent(record.error()) ? Result<std::optional<std::string>>(std::nullopt)
                                         : std::move(record).error();
    }
    const std::string uuid = record->text("uuid");
    if (own_uuid && *own_uuid != uuid) {
        return Error::conflict(
                   "compute node {} of host {} is recorded as {}, and this node's "
                   "compute_id file says {}",
                   options_.hypervisor_hostname, options_.host, uuid, *own_uuid)
            .with_hint(
                "Two hosts must not share a name. If this host was installed anew, write "
                "the recorded uuid into the file compute_id below state_path.")
            .with_fault("InvalidConfiguration");
    }
    return std::optional(uuid);
}

Result<bool> NodeRecords::is_forced_down(const std::string& host) {
    const std::lock_guard lock(mutex_);
    const NovaObject service = TRY(objects_.class_object(
        context(), "Service", "get_by_host_and_binary", text_arguments({host, kBinary})));
    return service.boolean("forced_down");
}

Result<void> NodeRecords::register_service() {
    const std::lock_guard lock(mutex_);
    const int64_t version = facts_of(options_.release).service_version;
    auto found = objects_.class_object(context(), "Service", "get_by_host_and_binary",
                                       text_arguments({options_.host, kBinary}));
    if (found.ok()) {
        service_ = std::move(*found);
        if (service_->integer("version") != version) {
            service_->set("version", version);
            TRY(objects_.action(context(), *service_, "save"));
        }
        return {};
    }
    if (!is_absent(found.error())) {
        return std::move(found).error();
    }
    NovaObject made = NovaObject::make(objects_.table(), "Service");
    made.set("host", options_.host);
    made.set("binary", kBinary);
    made.set("topic", "compute");
    made.set("report_count", 0);
    made.set("version", version);
    TRY(objects_.action(context(), made, "create"));
    service_ = std::move(made);
    return {};
}

Result<void> NodeRecords::heartbeat() {
    const std::lock_guard lock(mutex_);
    if (!service_) {
        return {};
    }
    NovaObject next = *service_;
    next.set("report_count", next.integer("report_count") + 1);
    TRY(objects_.action(context(), next, "save"));
    service_ = std::move(next);
    disabled_.reset();  // the record is newer than what we were told
    return {};
}

void NodeRecords::fill(NovaObject& record, const compute::ComputeNode& node) const {
    set_if_changed(record, "vcpus", node.vcpus);
    set_if_changed(record, "vcpus_used", node.vcpus_used);
    set_if_changed(record, "memory_mb", node.memory_mb);
    set_if_changed(record, "memory_mb_used", node.memory_mb_used);
    set_if_changed(record, "local_gb", node.local_gb);
    set_if_changed(record, "local_gb_used", node.local_gb_used);
    set_if_changed(record, "free_ram_mb", node.memory_mb - node.memory_mb_used);
    set_if_changed(record, "free_disk_gb", node.local_gb - node.local_gb_used);
    set_if_changed(record, "disk_available_least", node.disk_available_least_gb);
    set_if_changed(record, "current_workload", node.current_workload);
    set_if_changed(record, "running_vms", node.running_vms);
    set_if_changed(record, "hypervisor_type", node.hypervisor_type);
    set_if_changed(record, "hypervisor_version", node.hypervisor_version);
    set_if_changed(record, "cpu_info", node.cpu_info_json);
    set_if_changed(record, "host_ip", node.host_ip);
    set_if_changed(record, "cpu_allocation_ratio", node.cpu_allocation_ratio);
    set_if_changed(record, "ram_allocation_ratio", node.ram_allocation_ratio);
    set_if_changed(record, "disk_allocation_ratio", node.disk_allocation_ratio);
    set_if_changed(record, "stats",
                   Json::object({{"failed_builds", std::to_string(failed_builds_)}}));
}

Result<void> NodeRecords::find_node(const compute::ComputeNode& node) {
    auto found =
        objects_.class_object(context(), "ComputeNode", "get_by_host_and_nodename",
                              text_arguments({options_.host, options_.hypervisor_hostname}));
    if (found.ok()) {
        node_ = std::move(*found);
        return {};
    }
    if (!is_absent(found.error())) {
        return std::move(found).error();
    }
    NovaObject made = NovaObject::make(objects_.table(), "ComputeNode");
    made.set("uuid", node.uuid);
    made.set("host", options_.host);
    made.set("hypervisor_hostname", options_.hypervisor_hostname);
    if (service_ && service_->has("id")) {
        made.set("service_id", service_->integer("id"));
    }
    made.set("mapped", 0);
    made.set("metrics", "[]");
    made.set("numa_topology", nullptr);
    made.set("supported_hv_specs", supported_specs(objects_.table()));
    NovaObject pools = NovaObject::make(objects_.table(), "PciDevicePoolList");
    pools.set("objects", Json::array());
    made.set("pci_device_pools", pools.primitive());
    fill(made, node);
    TRY(objects_.action(context(), made, "create"));
    node_ = std::move(made);
    return {};
}

Result<void> NodeRecords::update(const compute::ComputeNode& node) {
    const std::lock_guard lock(mutex_);
    if (!node_) {
        TRY(find_node(node));
    }
    NovaObject next = *node_;
    next.reset_changes();
    fill(next, node);
    if (!next.changes().empty()) {
        auto saved = objects_.action(context(), next, "save");
        if (!saved.ok()) {
            node_.reset();
            return std::move(saved).error();
        }
        node_ = std::move(next);
    }
    inventory_ = node;
    inventory_->hypervisor_hostname = options_.hypervisor_hostname;
    return sync_(*inventory_, disabled_.value_or(service_ && service_->boolean("disabled")));
}

Result<void> NodeRecords::set_enabled(bool enabled) {
    const std::lock_guard lock(mutex_);
    disabled_ = !enabled;
    return inventory_ ? sync_(*inventory_, !enabled) : Result<void>();
}

std::optional<std::string> NodeRecords::uuid() {
    const std::lock_guard lock(mutex_);
    return inventory_ ? std::optional(inventory_->uuid) : std::nullopt;
}

std::optional<int64_t> NodeRecords::record_id() {
    const std::lock_guard lock(mutex_);
    const Json* id = node_ ? node_->get("id") : nullptr;
    return id != nullptr ? id->to_int64() : std::nullopt;
}

void NodeRecords::count_build(bool succeeded) {
    const std::lock_guard lock(mutex_);
    failed_builds_ = succeeded ? 0 : failed_builds_ + 1;
}

}  // namespace kumoi::nova
