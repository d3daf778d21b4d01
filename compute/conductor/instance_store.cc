#include "compute/conductor/instance_store.h"

#include <algorithm>

#include "compute/conductor/instance_codec.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr char kColumns[] =
    "SELECT id, uuid, project_id, user_id, definition, state FROM instances ";

Result<Instance> instance_from_row(const SqlRow& row) {
    const Json definition =
        TRY_CONTEXT(Json::parse(row.text(4)), "definition of server {}", row.text(1));
    const Json state = TRY_CONTEXT(Json::parse(row.text(5)), "state of server {}", row.text(1));
    Instance instance = instance_from_json(definition, state);
    instance.id = row.integer(0);
    instance.uuid = row.text(1);
    instance.project_id = row.text(2);
    instance.user_id = row.text(3);
    return instance;
}

bool is_busy(const Instance& instance) {
    return instance.task_state.has_value() || instance.vm_state == vm_states::kBuilding;
}

// Whether the document that is written only when it must be has to be written.
bool definition_changed(const Instance& before, const Instance& after) {
    return before.image_id != after.image_id || before.flavor != after.flavor ||
           before.image != after.image || before.key_name != after.key_name ||
           before.key_data != after.key_data || before.user_data != after.user_data ||
           before.config_drive != after.config_drive ||
           before.auto_disk_config != after.auto_disk_config;
}

Error instance_not_found(const std::string& uuid) {
    return Error::not_found("Instance {} could not be found.", uuid).with_fault("InstanceNotFound");
}

}  // namespace

std::shared_ptr<const std::string> DerivedText::find(const std::string& key) const {
    const std::lock_guard lock(mutex_);
    return key == key_ ? text_ : nullptr;
}

std::shared_ptr<const std::string> DerivedText::keep(std::string key, std::string text) const {
    auto shared = std::make_shared<const std::string>(std::move(text));
    const std::lock_guard lock(mutex_);
    key_ = std::move(key);
    text_ = shared;
    return shared;
}

int64_t flavor_disk_gb(const Flavor& flavor) {
    return flavor.root_gb + flavor.ephemeral_gb + (flavor.swap_mb + 1023) / 1024;
}

Result<void> InstanceStore::load() {
    const std::lock_guard writing(write_mutex_);
    const auto rows = TRY(database_.read(
        [](SqlSession& sql) { return sql.query(std::string(kColumns) + "WHERE deleted_ns = 0"); }));
    const std::unique_lock lock(map_mutex_);
    for (const SqlRow& row : rows) {
        put(TRY(instance_from_row(row)));
    }
    return {};
}

InstancePtr InstanceStore::find(const std::string& uuid) const {
    const std::shared_lock lock(map_mutex_);
    const auto found = by_uuid_.find(uuid);
    return found == by_uuid_.end() ? nullptr : found->second;
}

Result<InstancePtr> InstanceStore::get(const std::string& uuid) const {
    InstancePtr found = find(uuid);
    if (found == nullptr) {
        return instance_not_found(uuid);
    }
    return found;
}

std::vector<InstancePtr> InstanceStore::all() const {
    const std::shared_lock lock(map_mutex_);
    std::vector<InstancePtr> result;
    result.reserve(ordered_.size());
    for (const auto& [order, instance] : ordered_) {
        result.push_back(instance);
    }
    return result;
}

std::vector<InstancePtr> InstanceStore::of_project(const std::string& project_id) const {
    const std::shared_lock lock(map_mutex_);
    std::vector<InstancePtr> result;
    const auto found = by_project_.find(project_id);
    if (found != by_project_.end()) {
        result.reserve(found->second.size());
        for (const auto& [order, instance] : found->second) {
            result.push_back(instance);
        }
    }
    return result;
}

std::vector<InstancePtr> InstanceStore::of_host(const std::string& host) const {
    const std::shared_lock lock(map_mutex_);
    std::vector<InstancePtr> result;
    for (const auto& [order, instance] : ordered_) {
        if (instance->instance.host == host) {
            result.push_back(instance);
        }
    }
    return result;
}

Result<std::vector<InstancePtr>> InstanceStore::deleted(const std::string& project_id,
                                                        int64_t since_ns, size_t count_max) const {
    const auto rows = TRY(database_.read([&](SqlSession& sql) {
        return sql.query(
            std::string(kColumns) +
                "WHERE deleted_ns > 0 AND deleted_ns >= ? AND (? = '' OR project_id = ?)"
                " ORDER BY created_ns DESC, id DESC LIMIT ?",
            since_ns, project_id, project_id, count_max);
    }));
    std::vector<InstancePtr> result;
    for (const SqlRow& row : rows) {
        result.push_back(std::make_shared<const StoredInstance>(TRY(instance_from_row(row))));
    }
    return result;
}

Result<InstancePtr> InstanceStore::find_deleted(const std::string& uuid) const {
    const auto row = TRY(database_.read([&](SqlSession& sql) {
        return sql.query_one(std::string(kColumns) + "WHERE uuid = ? AND deleted_ns > 0", uuid);
    }));
    if (!row) {
        return InstancePtr();
    }
    return InstancePtr(std::make_shared<const StoredInstance>(TRY(instance_from_row(*row))));
}

ProjectUsage InstanceStore::usage(const std::string& project_id) const {
    const std::shared_lock lock(map_mutex_);
    const auto found = usage_.find(project_id);
    return found == usage_.end() ? ProjectUsage() : found->second;
}

HostClaims InstanceStore::claims(const std::string& host) const {
    const std::shared_lock lock(map_mutex_);
    const auto found = claims_.find(host);
    return found == claims_.end() ? HostClaims() : found->second;
}

Result<void> InstanceStore::insert(std::vector<Instance>& instances, const Extra& extra) {
    const std::lock_guard writing(write_mutex_);
    TRY(database_.write_relaxed([&](SqlSession& sql) -> Result<void> {
        for (Instance& instance : instances) {
            TRY(
                sql.run("INSERT INTO instances(uuid, project_id, user_id, host, created_ns, "
                        "updated_ns, definition, state) VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                        instance.uuid, instance.project_id, instance.user_id, instance.host,
                        instance.created_ns, instance.updated_ns,
                        instance_definition_to_json(instance).dump(),
                        instance_state_to_json(instance).dump()));
            instance.id = sql.last_insert_id();
        }
        return extra ? extra(sql) : Result<void>();
    }));
    const std::unique_lock lock(map_mutex_);
    for (const Instance& instance : instances) {
        put(instance);
    }
    return {};
}

Result<InstancePtr> InstanceStore::update(const std::string& uuid, const Change& change,
                                          const Extra& extra, Durability durability) {
    InstancePtr changed = TRY(apply(uuid, change, extra));
    if (durability == Durability::PowerCut) {
        TRY(database_.sync());
    }
    return changed;
}

Result<InstancePtr> InstanceStore::apply(const std::string& uuid, const Change& change,
                                         const Extra& extra) {
    const std::lock_guard writing(write_mutex_);
    const InstancePtr before = TRY(get(uuid));
    Instance instance = before->instance;
    TRY(change(instance));
    instance.updated_ns = clock_.wall_ns();
    TRY(database_.write_relaxed([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("UPDATE instances SET host = ?, updated_ns = ?, state = ? WHERE uuid = ?",
                    instance.host, instance.updated_ns, instance_state_to_json(instance).dump(),
                    uuid));
        if (definition_changed(before->instance, instance)) {
            TRY(sql.run("UPDATE instances SET definition = ? WHERE uuid = ?",
                        instance_definition_to_json(instance).dump(), uuid));
        }
        return extra ? extra(sql) : Result<void>();
    }));
    const std::unique_lock lock(map_mutex_);
    put(std::move(instance));
    return by_uuid_.at(uuid);
}

Result<void> InstanceStore::destroy(const std::string& uuid) {
    TRY(apply_destroy(uuid));
    return database_.sync();
}

Result<void> InstanceStore::apply_destroy(const std::string& uuid) {
    const std::lock_guard writing(write_mutex_);
    const InstancePtr before = TRY(get(uuid));
    Instance instance = before->instance;
    instance.vm_state = vm_states::kDeleted;
    instance.task_state = std::nullopt;
    instance.power_state = power_states::kNoState;
    instance.deleted_ns = clock_.wall_ns();
    instance.updated_ns = instance.deleted_ns;
    if (instance.terminated_ns == 0) {
        instance.terminated_ns = instance.deleted_ns;
    }
    TRY(database_.write_relaxed([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("UPDATE instances SET updated_ns = ?, deleted_ns = ?, state = ? WHERE uuid = ?",
                    instance.updated_ns, instance.deleted_ns,
                    instance_state_to_json(instance).dump(), uuid));
        TRY(sql.run("DELETE FROM build_requests WHERE instance_uuid = ?", uuid));
        TRY(sql.run("DELETE FROM server_group_members WHERE instance_uuid = ?", uuid));
        return {};
    }));
    const std::unique_lock lock(map_mutex_);
    remove(before->instance);
    return {};
}

void InstanceStore::put(Instance instance) {
    const auto found = by_uuid_.find(instance.uuid);
    if (found != by_uuid_.end()) {
        account(found->second->instance, -1);
    }
    account(instance, 1);
    auto stored = std::make_shared<const StoredInstance>(std::move(instance));
    const Instance& value = stored->instance;
    ordered_[order_of(value)] = stored;
    by_project_[value.project_id][order_of(value)] = stored;
    by_uuid_[value.uuid] = stored;
}

void InstanceStore::remove(const Instance& instance) {
    account(instance, -1);
    ordered_.erase(order_of(instance));
    const auto project = by_project_.find(instance.project_id);
    if (project != by_project_.end()) {
        project->second.erase(order_of(instance));
        if (project->second.empty()) {
            by_project_.erase(project);
            usage_.erase(instance.project_id);
        }
    }
    by_uuid_.erase(instance.uuid);
}

void InstanceStore::account(const Instance& instance, int sign) {
    ProjectUsage& usage = usage_[instance.project_id];
    if (instance.vm_state != vm_states::kSoftDeleted) {  // restoring asks for quota again
        // Both sizes fit a resize that is under way, so that neither end of it can be refused.
        const Flavor& wanted = instance.new_flavor ? *instance.new_flavor : instance.flavor;
        usage.instances += sign;
        usage.cores += sign * std::max(instance.flavor.vcpus, wanted.vcpus);
        usage.ram_mb += sign * std::max(instance.flavor.memory_mb, wanted.memory_mb);
    }
    if (!instance.host.empty()) {
        HostClaims& claims = claims_[instance.host];
        claims.servers += sign;
        claims.vcpus += sign * instance.flavor.vcpus;
        claims.memory_mb += sign * instance.flavor.memory_mb;
        claims.disk_gb += sign * flavor_disk_gb(instance.flavor);
        if (const Flavor* other = other_flavor(instance)) {
            claims.vcpus += sign * other->vcpus;
            claims.memory_mb += sign * other->memory_mb;
            claims.disk_gb += sign * flavor_disk_gb(*other);
        }
        claims.busy += is_busy(instance) ? sign : 0;
    }
}

}  // namespace kumoi::compute
