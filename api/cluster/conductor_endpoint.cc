#include "api/cluster/conductor_endpoint.h"

#include <algorithm>
#include <array>

#include "api/nova/instance_object.h"
#include "api/nova/oslo_context.h"
#include "compute/clients/vif_json.h"
#include "compute/vm_states.h"

namespace kumoi::cluster {
namespace {

using compute::MigrationRecord;
using nova::NovaObject;

const Json kNothing = Json::array();
const Json kNoNames = Json::object();
constexpr char kBinary[] = "nova-compute";

Error unknown_method(const std::string& name) {
    return Error::unsupported("The controller does not answer {}", name)
        .with_hint("Controller and members must be of the same version of kumoi.")
        .with_fault("NoSuchMethod");
}

// The reply of a method that changes its object: the changes, and nothing to return.
Json updated(Json updates) {
    updates.set("obj_what_changed", Json::array());
    Json pair = Json::array();
    pair.push_back(std::move(updates));
    pair.push_back(nullptr);
    return pair;
}

Error not_found(const char* fault, const std::string& what) {
    return Error::not_found("{} could not be found.", what).with_fault(fault);
}

// One value, or one of a list.
bool matches(const Json& wanted, const std::string& value) {
    if (wanted.is_array()) {
        const auto& all = wanted.as_array();
        return std::find(all.begin(), all.end(), Json(value)) != all.end();
    }
    return !wanted.is_string() || wanted.as_string() == value;
}

bool fits_filters(const Json& filters, const MigrationRecord& migration) {
    const std::pair<std::string_view, const std::string*> fields[] = {
        {"status", &migration.status},
        {"migration_type", &migration.migration_type},
        {"source_compute", &migration.source_compute},
        {"dest_compute", &migration.dest_compute},
        {"instance_uuid", &migration.instance_uuid}};
    for (const auto& [name, value] : fields) {
        const Json* wanted = filters.find(name);
        if (wanted != nullptr && !matches(*wanted, *value)) {
            return false;
        }
    }
    const Json* host = filters.find("host");
    return host == nullptr || matches(*host, migration.source_compute) ||
           matches(*host, migration.dest_compute);
}

}  // namespace

Result<std::unique_ptr<ConductorEndpoint>> ConductorEndpoint::create(Borders borders) {
    // What the two hosts of a move keep at the server; means nothing to the control plane.
    TRY(borders.database.migrate("cluster",
                                 {"CREATE TABLE move_contexts(instance_uuid TEXT PRIMARY KEY, body "
                                  "TEXT NOT NULL) WITHOUT ROWID"}));
    return std::unique_ptr<ConductorEndpoint>(new ConductorEndpoint(std::move(borders)));
}

const Json* ConductorEndpoint::Call::argument(size_t index) const {
    return args.is_array() && index < args.size() ? &args.as_array()[index] : nullptr;
}

std::string ConductorEndpoint::Call::text(size_t index) const {
    const Json* value = argument(index);
    return value != nullptr && value->is_string() ? value->as_string() : "";
}

Result<Json> ConductorEndpoint::handle(const amqp::RpcRequest& request) {
    if (request.namespace_ == "baseapi" && request.method == "ping") {
        return Json::object({{"service", "conductor"}, {"arg", request.args.string_or("arg")}});
    }
    if (request.namespace_ == "compute_task") {
        return request.method == "build_instances" ? build_instances(request)
                                                   : unknown_method(request.method);
    }
    const Json* args = request.args.find("args");
    const Json* kwargs = request.args.find("kwargs");
    const Json* object = request.args.find("objinst");
    const std::string name = object != nullptr ? object->string_or("nova_object.name")
                                               : request.args.string_or("objname");
    const Call call{
        nova::request_context(request.context), request.context.string_or("read_deleted") == "yes",
        name + "." + request.args.string_or("objmethod"), args == nullptr ? kNothing : *args,
        kwargs == nullptr || !kwargs->is_object() ? kNoNames : *kwargs};
    if (request.method == "object_class_action_versions") {
        return class_action(call);
    }
    if (request.method == "object_action" && object != nullptr) {
        return object_action(call, *object);
    }
    return unknown_method(request.method);
}

Result<Json> ConductorEndpoint::class_action(const Call& call) {
    compute::Conductor& conductor = borders_.conductor;
    const std::string& name = call.name;
    if (name == "Instance.get_by_uuid") {
        return find_instance(call);
    }
    if (name == "InstanceList.get_by_host") {
        return instances_of(call.text(0));
    }
    if (name == "InstanceList.get_by_filters" && call.argument(0) != nullptr) {
        return filtered_instances(*call.argument(0));
    }
    if (name == "InstanceActionEvent.event_start") {
        TRY(conductor.action_event_start(call.context, call.text(0), call.text(1),
                                         call.kwargs.string_or("host")));
        return Json();
    }
    if (name == "InstanceActionEvent.event_finish_with_failure") {
        const std::string why = call.kwargs.string_or("exc_val");
        TRY(conductor.action_event_finish(
            call.context, call.text(0), call.text(1),
            why.empty() ? std::nullopt : std::optional(Error::internal("{}", why))));
        return Json();
    }
    if (name == "Service.get_minimum_version") {
        return Json(nova::facts_of(nova::Release::Gazpacho).service_version);
    }
    if (name == "Service.get_by_host_and_binary") {
        const auto service = conductor.services().find_service(call.text(0), call.text(1));
        return service ? Result<Json>(service_primitive(*service))
                       : not_found("HostBinaryNotFound", "Service of " + call.text(0));
    }
    if (name == "ComputeNode.get_by_host_and_nodename") {
        const auto node = conductor.services().find_node(call.text(0));
        return node ? Result<Json>(compute_node_primitive(*node))
                    : not_found("ComputeHostNotFound", "Compute host " + call.text(0));
    }
    if (name == "BlockDeviceMappingList.get_by_instance_uuid") {  // no volumes in such a cloud
        return list_primitive("BlockDeviceMappingList", {});
    }
    if (name == "ConsoleAuthToken.clean_console_auths_for_instance") {
        return Json();  // tokens of this cloud die with their server
    }
    if (name.starts_with("InstanceGroup.")) {
        return not_found("InstanceGroupNotFound", "Instance group");
    }
    return migration_class_action(call);
}

Result<Json> ConductorEndpoint::migration_class_action(const Call& call) {
    const compute::MigrationStore& store = borders_.conductor.migrations();
    const std::string& name = call.name;
    if (name == "Migration.get_by_id" || name == "Migration.get_by_uuid" ||
        name == "Migration.get_by_id_and_instance") {
        const Json* id = call.argument(0);
        const auto found = name == "Migration.get_by_uuid"
                               ? TRY(store.find_by_uuid(call.text(0)))
                               : TRY(store.find(id == nullptr ? 0 : id->to_int64().value_or(0)));
        return found ? Result<Json>(migration_primitive(*found))
                     : not_found("MigrationNotFound", "Migration");
    }
    if (name == "Migration.get_by_instance_and_status") {
        const auto found = TRY(store.find(call.text(0), call.text(1)));
        return found ? Result<Json>(migration_primitive(*found))
                     : not_found("MigrationNotFoundByStatus", "Migration");
    }
    if (name == "MigrationList.get_by_filters" && call.argument(0) != nullptr) {
        const Json& filters = *call.argument(0);
        compute::MigrationQuery query;
        if (const std::string uuid = filters.string_or("instance_uuid"); !uuid.empty()) {
            query.instance_uuid = uuid;
        }
        return migrations(
            [&](const MigrationRecord& migration) { return fits_filters(filters, migration); },
            query);
    }
    const bool with_errors = name == "MigrationList.get_in_progress_and_error";
    if (with_errors || name == "MigrationList.get_in_progress_by_host_and_node") {
        compute::MigrationQuery query;
        query.host = call.text(0);
        return migrations(
            [&](const MigrationRecord& migration) {
                return (with_errors && migration.status == "error") ||
                       !compute::is_ended(migration.status);
            },
            query);
    }
    if (name == "MigrationList.get_in_progress_by_instance") {
        compute::MigrationQuery query;
        query.instance_uuid = call.text(0);
        const std::string type = call.text(1);
        return migrations(
            [&](const MigrationRecord& migration) {
                return !compute::is_ended(migration.status) && migration.status != "accepted" &&
                       (type.empty() || migration.migration_type == type);
            },
            query);
    }
    if (name == "MigrationContext.get_by_instance_uuid") {
        Json context = TRY(move_context(call.text(0)));
        return context.is_null() ? Result<Json>(not_found("MigrationContextNotFound",
                                                          "Migration context of " + call.text(0)))
                                 : std::move(context);
    }
    return unknown_method(name);
}

Result<Json> ConductorEndpoint::object_action(const Call& call, const Json& primitive) {
    const auto object = TRY(NovaObject::parse(objects(), primitive));
    if (object.name() == "Instance" || object.name().starts_with("Instance")) {
        return instance_action(call, object);
    }
    if (call.name == "Migration.save") {
        return save_migration(object);
    }
    return host_action(call, object);
}

Result<Json> ConductorEndpoint::host_action(const Call& call, const NovaObject& object) {
    compute::Conductor& conductor = borders_.conductor;
    const std::string host = object.text("host");
    const bool makes = call.name.ends_with(".create");
    if (call.name == "Service.create" || call.name == "Service.save") {
        if (object.text("binary") != kBinary || host.empty()) {
            return Error::invalid("Only compute services register here")
                .with_fault("ServiceBinaryExists");
        }
        TRY(conductor.service_heartbeat(host));
        borders_.host_seen(host);
        const auto service = conductor.services().find_service(host, kBinary);
        Json updates = Json::object();
        if (makes && service) {
            updates.set("id", service->id);
            updates.set("uuid", service->uuid);
        }
        if (service) {
            updates.set("disabled", service->disabled);
        }
        return updated(std::move(updates));
    }
    if (call.name == "ComputeNode.create" || call.name == "ComputeNode.save") {
        compute::ComputeNode node = compute_node_from(object);
        const auto before = conductor.services().find_node(host);
        if (before) {  // what travels beside the object (report of the inventory)
            node.memory_mb_reserved = before->node.memory_mb_reserved;
            node.uptime_s = before->node.uptime_s;
            node.load_average = before->node.load_average;
        }
        TRY(conductor.compute_node_update(node));
        const auto record = conductor.services().find_node(host);
        return updated(makes && record ? Json::object({{"id", record->id}}) : Json::object());
    }
    return unknown_method(call.name);
}

Result<Json> ConductorEndpoint::instance_action(const Call& call, const NovaObject& object) {
    compute::Conductor& conductor = borders_.conductor;
    if (call.name == "Instance.save") {
        return save_instance(call, object);
    }
    if (call.name == "Instance.destroy") {
        const std::string uuid = object.text("uuid");
        TRY(conductor.instance_destroy(uuid));
        TRY(keep_move_context(uuid, Json()));
        return updated(Json::object({{"deleted", true}}));
    }
    if (call.name == "Instance.drop_migration_context") {
        TRY(keep_move_context(object.text("uuid"), Json()));
        return updated(Json::object({{"migration_context", nullptr}}));
    }
    const std::string uuid = object.text("instance_uuid");
    if (call.name == "InstanceInfoCache.save") {
        compute::InstanceUpdate update;
        update.network_info = TRY(clients::parse_network_info(object.text("network_info", "[]")));
        TRY(conductor.instance_save(uuid, update));
        return updated(Json::object());
    }
    if (call.name == "InstanceFault.create") {
        compute::Fault fault;
        fault.code = static_cast<int>(object.integer("code", 500));
        fault.message = object.text("message");
        fault.details = object.text("details");
        TRY(conductor.fault_create(uuid, fault));
        return updated(Json::object());
    }
    return unknown_method(call.name);
}

Result<Json> ConductorEndpoint::save_instance(const Call& call, const NovaObject& object) {
    const std::string uuid = object.text("uuid");
    const auto update = instance_update(object, call.kwargs);
    TRY(borders_.conductor.instance_save(uuid, update));
    const auto& changes = object.changes();
    if (std::find(changes.begin(), changes.end(), "migration_context") != changes.end()) {
        TRY(keep_move_context(uuid, *object.get("migration_context")));
    }
    const auto stored = borders_.conductor.instances().find(uuid);
    Json updates = Json::object();
    if (stored != nullptr) {
        updates.set("updated_at", nova::date_time(stored->instance.updated_ns));
        // The host's zone is the control plane's to know.
        const std::string& zone = stored->instance.availability_zone;
        updates.set("availability_zone", zone.empty() ? Json() : Json(zone));
    }
    return updated(std::move(updates));
}

Result<Json> ConductorEndpoint::save_migration(const NovaObject& object) {
    compute::MigrationStore& store = borders_.conductor.migrations();
    auto migration = TRY(store.find_by_uuid(object.text("uuid")));
    if (!migration) {
        return not_found("MigrationNotFound", "Migration " + object.text("uuid"));
    }
    apply_migration(object, *migration);
    TRY(store.update(*migration));
    return updated(Json::object({{"updated_at", nova::date_time(migration->updated_ns)}}));
}

// A node gives a build back: another shall try.
Result<Json> ConductorEndpoint::build_instances(const amqp::RpcRequest& request) {
    const Json* instances = request.args.find("instances");
    if (instances == nullptr || !instances->is_array() || instances->size() == 0) {
        return Error::invalid("build_instances: no instance").with_fault("TypeError");
    }
    const auto object = TRY(NovaObject::parse(objects(), instances->as_array()[0]));
    const Json* retry = request.args.find_path({"filter_properties", "retry"});
    const std::string why = retry == nullptr ? "" : retry->string_or("exc_reason");
    const std::string host = retry == nullptr ? "" : retry->string_or("kumoi_host");
    compute::Conductor& conductor = borders_.conductor;
    const std::string uuid = object.text("uuid");
    compute::InstanceUpdate where;  // the node took itself out of the record
    where.host = where.node = host;
    TRY(conductor.instance_save(uuid, where));
    TRY(conductor.reschedule_build(nova::request_context(request.context), uuid,
                                   Error::internal("{}", why)));
    return Json();
}

Result<Json> ConductorEndpoint::instance(const compute::Instance& record) const {
    const compute::FlavorStore& flavors = borders_.conductor.flavors();
    const auto number = [&](const std::optional<compute::Flavor>& flavor) {
        return flavor ? flavors.number_of(flavor->flavor_id) : 0;
    };
    InstanceFacts facts;
    facts.flavor_number = number(record.flavor);
    facts.old_flavor_number = number(record.old_flavor);
    facts.new_flavor_number = number(record.new_flavor);
    facts.migration_context = TRY(move_context(record.uuid));
    return instance_primitive(record, facts);
}

Result<Json> ConductorEndpoint::find_instance(const Call& call) const {
    const compute::InstanceStore& store = borders_.conductor.instances();
    const std::string uuid = call.text(0);
    compute::InstancePtr found = store.find(uuid);
    if (found == nullptr && call.read_deleted) {
        found = TRY(store.find_deleted(uuid));
    }
    if (found == nullptr) {
        return not_found("InstanceNotFound", "Instance " + uuid);
    }
    return instance(found->instance);
}

Result<Json> ConductorEndpoint::instances_of(const std::string& host) const {
    Json::Array all;
    for (const auto& stored : borders_.conductor.instances().of_host(host)) {
        all.push_back(TRY(instance(stored->instance)));
    }
    return list_primitive("InstanceList", std::move(all));
}

Result<Json> ConductorEndpoint::filtered_instances(const Json& filters) const {
    const std::string host = filters.string_or("host");
    const Json* uuids = filters.find("uuid");
    const auto& store = borders_.conductor.instances();
    Json::Array all;
    for (const auto& stored : host.empty() ? store.all() : store.of_host(host)) {
        const compute::Instance& record = stored->instance;
        const Json* state = filters.find("vm_state");
        if ((uuids == nullptr || matches(*uuids, record.uuid)) &&
            (state == nullptr || matches(*state, record.vm_state))) {
            all.push_back(TRY(instance(record)));
        }
    }
    return list_primitive("InstanceList", std::move(all));
}

Result<Json> ConductorEndpoint::migrations(const std::function<bool(const MigrationRecord&)>& fits,
                                           compute::MigrationQuery query) const {
    query.count_max = SIZE_MAX >> 1;
    Json::Array all;
    for (const MigrationRecord& migration :
         TRY(borders_.conductor.migrations().list(std::move(query)))) {
        if (fits(migration)) {
            all.push_back(migration_primitive(migration));
        }
    }
    return list_primitive("MigrationList", std::move(all));
}

Result<Json> ConductorEndpoint::move_context(const std::string& uuid) const {
    const auto row = TRY(borders_.database.read([&](compute::SqlSession& sql) {
        return sql.query_one("SELECT body FROM move_contexts WHERE instance_uuid = ?", uuid);
    }));
    return row ? Json::parse(row->text(0)) : Result<Json>(Json());
}

Result<void> ConductorEndpoint::keep_move_context(const std::string& uuid, const Json& context) {
    return borders_.database.write([&](compute::SqlSession& sql) -> Result<void> {
        if (context.is_null()) {
            TRY(sql.run("DELETE FROM move_contexts WHERE instance_uuid = ?", uuid));
        } else {
            TRY(
                sql.run("INSERT INTO move_contexts(instance_uuid, body) VALUES(?, ?) ON "
                        "CONFLICT(instance_uuid) DO UPDATE SET body = excluded.body",
                        uuid, context.dump()));
        }
        return {};
    });
}

}  // namespace kumoi::cluster
