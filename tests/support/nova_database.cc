#include "tests/support/nova_database.h"

#include <algorithm>

namespace kumoi::test {
namespace {

Error no_such_instance(const std::string& uuid) {
    return Error::not_found("Instance {} could not be found.", uuid).with_fault("InstanceNotFound");
}

const Json& data_of(const Json& primitive) {
    return *primitive.find("nova_object.data");
}

Json done(const Json& updates) {
    Json pair = Json::array();
    Json all = updates;
    all.set("obj_what_changed", Json::array());
    pair.push_back(std::move(all));
    pair.push_back(nullptr);
    return pair;
}

const Json& first_argument(const Json& args) {
    return args.find("args")->as_array().at(0);
}

// Whether an allocation is this consumer's.
bool is_of(const std::string& allocation, const std::string& consumer) {
    return allocation == consumer || allocation.starts_with(consumer + "@");
}

}  // namespace

void NovaDatabase::add(Json primitive) {
    primitive.erase("nova_object.changes");
    const std::string uuid = data_of(primitive).string_or("uuid");
    instances_[uuid] = std::move(primitive);
}

Json NovaDatabase::primitive(const std::string& uuid) const {
    const auto found = instances_.find(uuid);
    return found == instances_.end() ? Json() : found->second;
}

std::string NovaDatabase::text(const std::string& uuid, const std::string& field) const {
    const auto found = instances_.find(uuid);
    return found == instances_.end() ? "" : data_of(found->second).string_or(field);
}

bool NovaDatabase::is_deleted(const std::string& uuid) const {
    const auto found = instances_.find(uuid);
    return found == instances_.end() || data_of(found->second).bool_or("deleted");
}

void NovaDatabase::set(const std::string& uuid, const std::string& field, Json value) {
    Json& data = instances_.at(uuid)["nova_object.data"];
    data.set(field, std::move(value));
    data.set("updated_at", iso8601(clock_.wall_ns()));
}

Result<Json> NovaDatabase::call(const amqp::Target& target, const Json& context,
                                const std::string& method, Json args,
                                amqp::CallOptions /*options*/) {
    if (target.topic == "compute" && peers) {
        sent.push_back({method, args});
        TRY(log_.enter("call " + method));
        auto result = peers(target.server, method, std::move(args));
        log_.leave();
        if (answer) {
            TRY(answer("call " + method));
        }
        return result;
    }
    const Json* object = args.find("objinst");
    const std::string name =
        (object != nullptr ? object->string_or("nova_object.name") : args.string_or("objname")) +
        "." + args.string_or("objmethod");
    if (object != nullptr && (name.starts_with("ComputeNode.") || name.starts_with("Service."))) {
        const std::lock_guard lock(own_mutex_);
        own_records_.insert(name);
    }
    if (name.starts_with("ComputeNode.")) {  // from a thread of its own, whenever that runs
        return object == nullptr ? compute_node(first_argument(args).as_string())
                                 : done(Json::object());
    }
    sent.push_back({method, args});
    TRY(log_.enter("rpc " + name));
    auto result =
        method == "object_action" ? object_action(context, args) : class_action(context, args);
    log_.leave();
    if (answer) {
        TRY(answer("rpc " + name));
    }
    return result;
}

Result<void> NovaDatabase::cast(const amqp::Target& target, const Json& context,
                                const std::string& method, Json args) {
    sent.push_back({method, args});
    TRY(log_.enter("cast " + method));
    casts.push_back(method);
    if (target.topic == "compute" && !target.server.empty()) {
        deliveries.push_back({target.server, method, context, std::move(args)});
    }
    log_.leave();
    return {};
}

Result<Json> NovaDatabase::compute_node(const std::string& host) const {
    const auto found = nodes.find(host);
    if (found == nodes.end()) {
        return Error::not_found("no node").with_fault("ComputeHostNotFound");
    }
    return Json::object(
        {{"nova_object.name", "ComputeNode"},
         {"nova_object.namespace", "nova"},
         {"nova_object.version", "1.19"},
         {"nova_object.data",
          Json::object({{"uuid", found->second},
                        {"host", host},
                        {"hypervisor_hostname", host},
                        {"hypervisor_type", compute::ComputeNode().hypervisor_type}})}});
}

std::set<std::string> NovaDatabase::own_records() const {
    const std::lock_guard lock(own_mutex_);
    return own_records_;
}

Result<Json> NovaDatabase::service(const std::string& host) const {
    if (!nodes.contains(host)) {
        return Error::not_found("no such service").with_fault("HostBinaryNotFound");
    }
    const int64_t version = nova::facts_of(nova::Release::Zed).service_version;
    return Json::object(
        {{"nova_object.name", "Service"},
         {"nova_object.namespace", "nova"},
         {"nova_object.version", "1.22"},
         {"nova_object.data", Json::object({{"id", 1},
                                            {"host", host},
                                            {"binary", "nova-compute"},
                                            {"version", version},
                                            {"disabled", false},
                                            {"forced_down", forced_down.contains(host)},
                                            {"report_count", 1}})}});
}

Json NovaDatabase::migration(const std::string& uuid) const {
    for (const Json& migration : migrations) {
        if (data_of(migration).string_or("uuid") == uuid) {
            return migration;
        }
    }
    return {};
}

Json NovaDatabase::migrations_like(const Json& args, const std::string& method) const {
    Json found = Json::array();
    for (const Json& migration : migrations) {
        const Json& data = data_of(migration);
        bool fits = true;
        if (method == "get_in_progress_and_error") {
            static const std::set<std::string> kEnded = {"confirmed", "reverted",  "failed",
                                                         "completed", "cancelled", "done"};
            const std::string host = first_argument(args).as_string();
            fits = !kEnded.contains(data.string_or("status")) &&
                   (data.string_or("source_compute") == host ||
                    data.string_or("dest_compute") == host);
        } else if (first_argument(args).is_object()) {
            for (const auto& [field, wanted] : first_argument(args).as_object()) {
                if (field == "host") {  // at either end
                    fits = fits && (data.string_or("source_compute") == wanted.as_string() ||
                                    data.string_or("dest_compute") == wanted.as_string());
                    continue;
                }
                const std::string value = data.string_or(field);
                fits = fits &&
                       (wanted.is_array() ? std::ranges::find(wanted.as_array(), Json(value)) !=
                                                wanted.as_array().end()
                                          : !wanted.is_string() || wanted.as_string() == value);
            }
        }
        if (fits) {
            found.push_back(migration);
        }
    }
    return list("MigrationList", std::move(found));
}

Result<Json> NovaDatabase::block_device_action(const Json& object, const std::string& method) {
    const Json& data = data_of(object);
    if (method == "create") {
        const int64_t id = block_devices.empty() ? 1 : block_devices.rbegin()->first + 1;
        Json& made = block_devices[id] = object;
        made.erase("nova_object.changes");
        const std::string uuid = fmt::format("{:08}-4444-4444-8444-444444444444", id);
        made["nova_object.data"].set("id", id);
        made["nova_object.data"].set("uuid", uuid);
        return done(Json::object({{"id", id}, {"uuid", uuid}}));
    }
    const auto found = block_devices.find(data.integer_or("id"));
    if (found == block_devices.end()) {
        return Error::not_found("No Block Device Mapping with id {}.", data.integer_or("id"))
            .with_fault("BDMNotFound");
    }
    if (method == "destroy") {
        block_devices.erase(found);
        return done(Json::object());
    }
    if (const Json* changes = object.find("nova_object.changes")) {
        for (const Json& field : changes->as_array()) {
            found->second["nova_object.data"].set(field.as_string(), *data.find(field.as_string()));
        }
    }
    return done(Json::object());
}

void NovaDatabase::save_migration(const Json& object) {
    const Json* changes = object.find("nova_object.changes");
    for (Json& migration : migrations) {
        if (data_of(migration).string_or("uuid") != data_of(object).string_or("uuid") ||
            changes == nullptr) {
            continue;
        }
        for (const Json& field : changes->as_array()) {
            migration["nova_object.data"].set(field.as_string(),
                                              *data_of(object).find(field.as_string()));
        }
    }
}

Json NovaDatabase::list(const std::string& name, Json objects) const {
    return Json::object({{"nova_object.name", name},
                         {"nova_object.namespace", "nova"},
                         {"nova_object.version", name == "InstanceList" ? "2.6" : "1.0"},
                         {"nova_object.data", Json::object({{"objects", std::move(objects)}})}});
}

Result<Json> NovaDatabase::instances(const Json& context, const Json& args) const {
    const bool by_host = args.string_or("objmethod") == "get_by_host";
    const Json filters = by_host
                             ? Json::object({{"host", first_argument(args)}, {"deleted", false}})
                             : first_argument(args);
    Json found = Json::array();
    for (const auto& [uuid, instance] : instances_) {
        const Json& data = data_of(instance);
        const bool deleted = data.bool_or("deleted");
        if (deleted && context.string_or("read_deleted") == "no") {
            continue;
        }
        bool fits = true;
        for (const auto& [field, wanted] : filters.as_object()) {
            if (field == "uuid") {
                const auto& uuids = wanted.as_array();
                fits = fits && std::find(uuids.begin(), uuids.end(), Json(uuid)) != uuids.end();
            } else if (field != "soft_deleted") {
                fits = fits && data.contains(field) && *data.find(field) == wanted;
            }
        }
        if (fits) {
            found.push_back(instance);
        }
    }
    return list("InstanceList", std::move(found));
}

Result<Json> NovaDatabase::class_action(const Json& context, const Json& args) {
    const std::string object = args.string_or("objname");
    const std::string method = args.string_or("objmethod");
    if (object == "InstanceList") {
        return instances(context, args);
    }
    if (object == "Instance" && method == "get_by_uuid") {
        const std::string uuid = first_argument(args).as_string();
        if (is_deleted(uuid) &&
            (context.string_or("read_deleted") == "no" || !instances_.contains(uuid))) {
            return no_such_instance(uuid);
        }
        return primitive(uuid);
    }
    if (object == "InstanceActionEvent") {
        const auto& names = args.find("args")->as_array();
        const std::string event = names[0].as_string() + " " + names[1].as_string();
        if (method == "event_start") {
            open_events.insert(event);
        } else {
            open_events.erase(event);
        }
        return Json();
    }
    if (object == "Service" && method.starts_with("get_by_")) {
        return service(first_argument(args).as_string());
    }
    if (object == "VirtualInterface") {
        const std::string uuid = first_argument(args).as_string();
        if (method == "get_by_uuid") {
            return vifs.contains(uuid) ? vifs.at(uuid) : Json();
        }
        std::erase_if(vifs, [&](const auto& vif) {
            return data_of(vif.second).string_or("instance_uuid") == uuid;
        });
        return Json();
    }
    if (object == "MigrationList") {
        return migrations_like(args, method);
    }
    if (object == "Migration") {
        for (const Json& migration : migrations) {
            const char* key = method == "get_by_id" ? "id" : "uuid";
            if (*data_of(migration).find(key) == first_argument(args)) {
                return migration;
            }
        }
        return Error::not_found("no such migration").with_fault("MigrationNotFound");
    }
    if (object == "MigrationContext") {
        const Json now = primitive(first_argument(args).as_string());
        const Json* kept = now.find_path({"nova_object.data", "migration_context"});
        return kept == nullptr || kept->is_null()
                   ? Result<Json>(Error::not_found("no migration context")
                                      .with_fault("MigrationContextNotFound"))
                   : *kept;
    }
    if (object == "BlockDeviceMappingList") {
        Json mine = Json::array();
        for (const auto& [id, device] : block_devices) {
            if (*data_of(device).find("instance_uuid") == first_argument(args)) {
                mine.push_back(device);
            }
        }
        return list(object, std::move(mine));
    }
    return object.ends_with("List") ? list(object, Json::array()) : Json();
}

Result<Json> NovaDatabase::object_action(const Json& context, const Json& args) {
    const Json& object = *args.find("objinst");
    const std::string name = object.string_or("nova_object.name");
    const Json& data = data_of(object);
    if (name == "Instance") {
        return instance_action(context, object, args);
    }
    const std::string uuid = data.string_or("instance_uuid");
    if (name == "InstanceInfoCache" && !is_deleted(uuid)) {
        Json& cache = instances_.at(uuid)["nova_object.data"]["info_cache"];
        cache["nova_object.data"].set("network_info", *data.find("network_info"));
    }
    if (name == "VirtualInterface") {
        const std::string port = data.string_or("uuid");
        if (args.string_or("objmethod") == "destroy") {
            vifs.erase(port);
            return done(Json::object());
        }
        if (!vifs.emplace(port, object).second) {
            return Error::conflict("VIF {} is there twice", port)
                .with_fault("VirtualInterfaceCreateException");
        }
        return done(Json::object());
    }
    if (name == "InstanceFault") {
        ++faults[uuid];
    }
    if (name == "Migration") {
        save_migration(object);
    }
    if (name == "BlockDeviceMapping") {
        return block_device_action(object, args.string_or("objmethod"));
    }
    return done(Json::object());
}

Result<Json> NovaDatabase::instance_action(const Json& context, const Json& object,
                                           const Json& args) {
    const Json& given = data_of(object);
    const std::string uuid = given.string_or("uuid");
    if (!instances_.contains(uuid) ||
        (is_deleted(uuid) && context.string_or("read_deleted") == "no")) {
        return no_such_instance(uuid);
    }
    Json& data = instances_.at(uuid)["nova_object.data"];
    const std::string now = iso8601(clock_.wall_ns());
    if (args.string_or("objmethod") == "destroy") {
        data.set("deleted", true);
        data.set("deleted_at", now);
        return done(Json::object({{"deleted", true}, {"deleted_at", now}}));
    }
    if (args.string_or("objmethod") == "drop_migration_context") {
        data.set("migration_context", nullptr);
        return done(Json::object());
    }
    const Json* expected = args.find("kwargs")->find("expected_task_state");
    const Json task = *data.find("task_state");
    if (expected != nullptr && !expected->is_null()) {
        const auto& all = expected->as_array();
        if (std::find(all.begin(), all.end(), task) == all.end()) {
            const bool deleting = task.is_string() && task.as_string() == "deleting";
            return Error::conflict("Conflict updating instance {}. Expected: {}. Actual: {}", uuid,
                                   expected->dump(), task.dump())
                .with_fault(deleting ? "UnexpectedDeletingTaskStateError"
                                     : "UnexpectedTaskStateError");
        }
    }
    const Json* changes = object.find("nova_object.changes");
    if (changes != nullptr) {
        for (const Json& field : changes->as_array()) {
            data.set(field.as_string(), *given.find(field.as_string()));
        }
    }
    data.set("updated_at", now);
    return done(Json::object({{"updated_at", now}}));
}

Result<void> NovaDatabase::remove(const compute::RequestContext& /*context*/,
                                  const std::string& consumer) {
    TRY(log_.enter("placement.remove"));
    std::erase_if(allocations, [&](const std::string& one) { return is_of(one, consumer); });
    log_.leave();
    return {};
}

Result<void> NovaDatabase::remove_from(const compute::RequestContext& context,
                                       const std::string& consumer, const std::string& provider) {
    if (nodes.empty()) {  // one node: what a consumer has is on its provider
        return remove(context, consumer);
    }
    TRY(log_.enter("placement.remove"));
    allocations.erase(consumer + "@" + provider);
    log_.leave();
    return {};
}

Result<void> NovaDatabase::move(const compute::RequestContext& /*context*/,
                                const std::string& source, const std::string& target) {
    TRY(log_.enter("placement.move"));
    std::set<std::string> moved;
    for (const std::string& one : allocations) {
        if (is_of(one, source)) {
            moved.insert(target + one.substr(source.size()));
        }
    }
    if (!moved.empty()) {
        std::erase_if(allocations, [&](const std::string& one) {
            return is_of(one, source) || is_of(one, target);
        });
        allocations.merge(moved);
    }
    log_.leave();
    return {};
}

Result<std::vector<std::string>> NovaDatabase::consumers_on(const std::string& provider) {
    TRY(log_.enter("placement.consumers"));
    std::vector<std::string> consumers;
    for (const std::string& one : allocations) {
        const size_t at = one.find('@');
        if (at == std::string::npos || one.substr(at + 1) == provider) {
            consumers.push_back(one.substr(0, at));
        }
    }
    return consumers;
}

}  // namespace kumoi::test
