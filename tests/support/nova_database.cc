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

Result<Json> NovaDatabase::call(const amqp::Target& /*target*/, const Json& context,
                                const std::string& method, Json args,
                                amqp::CallOptions /*options*/) {
    const Json* object = args.find("objinst");
    const std::string name =
        (object != nullptr ? object->string_or("nova_object.name") : args.string_or("objname")) +
        "." + args.string_or("objmethod");
    if (name.starts_with("ComputeNode.")) {  // from a thread of its own, whenever that runs
        return object == nullptr
                   ? Result<Json>(Error::not_found("no node").with_fault("ComputeHostNotFound"))
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

Result<void> NovaDatabase::cast(const amqp::Target& /*target*/, const Json& /*context*/,
                                const std::string& method, Json args) {
    sent.push_back({method, std::move(args)});
    TRY(log_.enter("cast " + method));
    casts.push_back(method);
    log_.leave();
    return {};
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
    if (object == "MigrationList") {
        return list("MigrationList", Json(migrations));
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
    if (name == "InstanceFault") {
        ++faults[uuid];
    }
    if (name == "Migration") {
        for (Json& migration : migrations) {
            if (data_of(migration).string_or("uuid") == data.string_or("uuid")) {
                migration["nova_object.data"].set("status", *data.find("status"));
            }
        }
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
    allocations.erase(consumer);
    log_.leave();
    return {};
}

// One node: what a consumer has is on its provider.
Result<void> NovaDatabase::remove_from(const compute::RequestContext& context,
                                       const std::string& consumer,
                                       const std::string& /*provider*/) {
    return remove(context, consumer);
}

Result<void> NovaDatabase::move(const compute::RequestContext& /*context*/,
                                const std::string& source, const std::string& target) {
    TRY(log_.enter("placement.move"));
    if (allocations.erase(source) > 0) {
        allocations.insert(target);
    }
    log_.leave();
    return {};
}

Result<std::vector<std::string>> NovaDatabase::consumers_on(const std::string& /*provider*/) {
    TRY(log_.enter("placement.consumers"));
    return std::vector<std::string>(allocations.begin(), allocations.end());
}

}  // namespace kumoi::test
