#include "api/nova/nova_conductor.h"

#include <algorithm>

#include "api/nova/instance_object.h"
#include "api/nova/oslo_context.h"
#include "base/log.h"
#include "compute/manager/verb.h"
#include "compute/vm_states.h"

namespace kumoi::nova {
namespace {

constexpr size_t kServersRemembered = 4096;
constexpr size_t kFaultMessageMax = 255;

// Without a host and with nobody at work on it: what it has here it had before.
bool has_left(const NovaObject& instance) {
    const std::string vm_state = instance.text("vm_state");
    return instance.text("host").empty() && !instance.optional_text("task_state") &&
           (vm_state == compute::vm_states::kShelvedOffloaded ||
            vm_state == compute::vm_states::kError);
}

// The attributes of an Instance that a node needs, for get_by_uuid and list calls.
Json expected_attributes() {
    return Json::array_of(std::vector<std::string>{"info_cache", "metadata", "system_metadata",
                                                   "numa_topology", "flavor", "tags",
                                                   "pci_requests", "resources"});
}

}  // namespace

std::shared_ptr<NovaConductor::Server> NovaConductor::server(const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    auto& entry = servers_[uuid];
    if (!entry) {
        entry = std::make_shared<Server>();
    }
    auto found = entry;
    if (servers_.size() > kServersRemembered) {  // all of it can be asked for again
        std::erase_if(servers_, [&](const auto& other) {
            return other.second.use_count() == 1 && !other.second->build &&
                   other.second->move_arguments.is_null();
        });
    }
    return found;
}

void NovaConductor::forget(const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    servers_.erase(uuid);
}

Json NovaConductor::context_of(Server& server) {
    if (server.context.is_null()) {
        server.context = admin_context(borders_.clock, borders_.random);
    }
    return elevated(server.context);
}

Result<compute::Instance> NovaConductor::record_of(const Server& server) const {
    compute::Instance instance = TRY(instance_from(*server.object));
    instance.task_arguments = server.arguments;
    return instance;
}

Result<compute::Instance> NovaConductor::adopt(const compute::RequestContext& context,
                                               NovaObject instance,
                                               compute::TaskArguments arguments) {
    const std::string uuid = instance.text("uuid");
    if (uuid.empty()) {
        return Error::invalid("an Instance object came without its uuid");
    }
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    entry->context = wire_context(context, borders_.clock, borders_.random);
    instance.reset_changes();
    entry->object = std::move(instance);
    // Nova sends a server that is started or stopped without its networks: it is read before use.
    entry->fresh = entry->object->has("info_cache");
    entry->arguments = std::move(arguments);
    return record_of(*entry);
}

void NovaConductor::adopt_build(const std::string& uuid, BuildArguments build) {
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    entry->build = std::move(build);
}

void NovaConductor::adopt_migration(const std::string& uuid, NovaObject migration, Json arguments) {
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    entry->migration = std::move(migration);
    entry->move_arguments = std::move(arguments);
}

Result<void> NovaConductor::with_server(const std::string& uuid,
                                        const std::function<Result<void>(const Known&)>& work) {
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    if (!entry->object) {
        TRY(load(*entry, uuid));
    }
    auto result =
        work({*entry->object, entry->migration, entry->move_arguments, context_of(*entry)});
    if (!result.ok()) {
        entry->object.reset();
    }
    return result;
}

Result<void> NovaConductor::drop_migration_context(const std::string& uuid) {
    return with_server(uuid, [&](const Known& known) -> Result<void> {
        const Json* context = known.instance.get("migration_context");
        if (context == nullptr || context->is_null()) {  // Nova drops only what it is shown
            auto found = borders_.objects.class_action(
                known.context, "MigrationContext", "get_by_instance_uuid", text_arguments({uuid}));
            if (!found.ok()) {
                const bool none = found.error().fault == "MigrationContextNotFound";
                return none ? Result<void>() : Result<void>(found.error());
            }
            known.instance.set("migration_context", std::move(*found));
        }
        TRY(borders_.objects.action(known.context, known.instance, "drop_migration_context"));
        return {};
    });
}

Result<void> NovaConductor::refuse(const compute::RequestContext& context, const std::string& uuid,
                                   const std::string& event, const Error& reason) {
    TRY(action_event_start(context, uuid, event, borders_.node.host()));
    TRY(fault_create(uuid, compute::fault_from(reason, borders_.clock)));
    compute::InstanceUpdate update;
    update.task_state = std::optional<std::string>();
    TRY(instance_save(uuid, update));
    return action_event_finish(context, uuid, event, reason);
}

Result<void> NovaConductor::load(Server& entry, const std::string& uuid) {
    entry.object = TRY(borders_.objects.class_object(
        context_of(entry), "Instance", "get_by_uuid", text_arguments({uuid}),
        Json::object({{"expected_attrs", expected_attributes()}})));
    return {};
}

Result<compute::Instance> NovaConductor::instance_get(const std::string& uuid) {
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    if (!entry->fresh || !entry->object) {
        TRY(load(*entry, uuid));
    }
    entry->fresh = false;
    return record_of(*entry);
}

Result<std::vector<compute::Instance>> NovaConductor::instances_by_host(const std::string& host) {
    const Json context = admin_context(borders_.clock, borders_.random);
    const auto objects = TRY(borders_.objects.class_objects(
        context, "InstanceList", "get_by_host", text_arguments({host}),
        Json::object({{"expected_attrs", expected_attributes()}})));
    std::vector<compute::Instance> instances;
    for (const NovaObject& object : objects) {
        auto instance = instance_from(object);
        if (!instance.ok()) {  // one that cannot be read must not hide the others
            log_error("nova", "an instance of this host cannot be read",
                      {{"server", object.text("uuid")}, {"why", instance.error().text()}});
            continue;
        }
        instances.push_back(std::move(*instance));
    }
    return instances;
}

Result<void> NovaConductor::save(Server& entry, const std::string& uuid,
                                 const compute::InstanceUpdate& update) {
    if (!entry.object) {
        TRY(load(entry, uuid));
    }
    NovaObject changed = *entry.object;
    TRY(apply_update(changed, update));
    if (update.vm_state == compute::vm_states::kDeleted) {
        changed.set("cleaned", true);  // all files are gone: nothing for run_pending_deletes
    }
    if (changed.changes().empty() && !update.expected_task_state) {
        return {};
    }
    auto saved =
        borders_.objects.action(context_of(entry), changed, "save", {}, save_arguments(update));
    if (!saved.ok()) {
        entry.object.reset();  // whatever conductor knows now, it is not what we have
        return std::move(saved).error();
    }
    entry.object = std::move(changed);
    return {};
}

Result<void> NovaConductor::instance_save(const std::string& uuid,
                                          const compute::InstanceUpdate& update) {
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    std::optional<NovaObject> cache;
    if (update.network_info) {  // first: the state that follows says that all is recorded
        cache = info_cache_with(borders_.objects.table(), uuid, *update.network_info);
        TRY(borders_.objects.action(context_of(*entry), *cache, "save"));
    }
    TRY(save(*entry, uuid, update));
    if (cache) {
        TRY(entry->object->apply_updates(Json::object({{"info_cache", cache->primitive()}})));
    }
    if (update.task_state && !*update.task_state) {
        entry->arguments = {};
    }
    if (update.vm_state == compute::vm_states::kError && entry->build) {
        borders_.node.count_build(false);
        entry->build.reset();
    }
    if (update.vm_state == compute::vm_states::kActive) {
        if (entry->build) {
            borders_.node.count_build(true);
        }
        entry->build.reset();
        if (entry->object && update.launched_ns) {  // it came here, or is another than before
            borders_.scheduler.updated(*entry->object);
        }
    }
    if (update.vm_state == compute::vm_states::kResized && update.launched_ns && entry->object) {
        borders_.scheduler.updated(*entry->object);
    }
    if (update.host && update.host->empty()) {
        const Json context = context_of(*entry);
        compute::warn_unless_ok(borders_.allocations.remove(request_context(context), uuid),
                                "an allocation is left to the next audit");
        borders_.scheduler.deleted(uuid);
    }
    return {};
}

Result<void> NovaConductor::instance_destroy(const std::string& uuid) {
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    if (!entry->object) {
        TRY(load(*entry, uuid));
    }
    const Json context = context_of(*entry);
    TRY(borders_.allocations.remove(request_context(context), uuid));
    const auto cleaned = borders_.objects.class_action(
        context, "ConsoleAuthToken", "clean_console_auths_for_instance", text_arguments({uuid}));
    if (!cleaned.ok()) {  // they expire by themselves
        log_warn("nova", "console tokens were not removed", {{"why", cleaned.error().text()}});
    }
    TRY(borders_.objects.action(context, *entry->object, "destroy"));
    if (borders_.notifications != nullptr) {  // afterwards nobody knows the server any more
        borders_.notifications->finished("compute_terminate_instance", *entry->object, context,
                                         details_of(*entry), std::nullopt);
    }
    borders_.scheduler.deleted(uuid);
    forget(uuid);
    return {};
}

Result<void> NovaConductor::fault_create(const std::string& uuid, const compute::Fault& fault) {
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    NovaObject object = NovaObject::make(borders_.objects.table(), "InstanceFault");
    object.set("instance_uuid", uuid);
    object.set("code", fault.code);
    object.set("message", fault.message.substr(0, kFaultMessageMax));
    object.set("details", fault.details);
    object.set("host", borders_.node.host());
    TRY(borders_.objects.action(context_of(*entry), object, "create"));
    return {};
}

std::string NovaConductor::group_hint(const std::string& uuid) {
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    if (!entry->build) {
        return {};
    }
    const Json& asked = entry->build->arguments;
    const Json* hints = asked.find_path({"request_spec", "nova_object.data", "scheduler_hints"});
    if (hints == nullptr || !hints->is_object()) {
        hints = asked.find_path({"filter_properties", "scheduler_hints"});
    }
    const Json* group = hints == nullptr ? nullptr : hints->find("group");
    if (group != nullptr && group->is_array() && group->size() > 0) {
        group = &group->as_array()[0];  // a RequestSpec has lists
    }
    return group != nullptr && group->is_string() ? group->as_string() : "";
}

Result<void> NovaConductor::touch(const std::string& uuid) {
    return with_server(uuid, [&](const Known& known) -> Result<void> {
        NovaObject changed = known.instance;
        changed.set("updated_at", date_time(borders_.clock.wall_ns()));
        TRY(borders_.objects.action(known.context, changed, "save"));
        known.instance = std::move(changed);
        return {};
    });
}

void NovaConductor::with_complete(const std::string& uuid,
                                  const std::function<void(const NovaObject& instance)>& work) {
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    complete(*entry, uuid);
    if (entry->object) {
        work(*entry->object);
    }
}

InstanceNotifications::Details NovaConductor::details_of(const Server& server) {
    InstanceNotifications::Details details{server.arguments.image_id, {}, {}, {}};
    if (const Json* flavor = server.move_arguments.find("flavor"); flavor != nullptr) {
        details.new_flavor = *flavor;
    }
    const Json* image = server.build ? server.build->arguments.find("image") : nullptr;
    if (image != nullptr && image->is_object()) {
        details.image_name = image->string_or("name");
    }
    const Json* devices =
        server.build ? server.build->arguments.find("block_device_mapping") : nullptr;
    details.block_devices = devices == nullptr ? Json() : *devices;
    return details;
}

// A request's object may lack what notifications say, the flavor above all.
void NovaConductor::complete(Server& entry, const std::string& uuid) {
    if (!entry.object || entry.object->has("flavor")) {
        return;
    }
    const auto whole = borders_.objects.class_object(
        context_of(entry), "Instance", "get_by_uuid", text_arguments({uuid}),
        Json::object({{"expected_attrs", expected_attributes()}}));
    if (!whole.ok()) {
        return;  // then the message says less
    }
    Json missing = Json::object();
    for (const char* field : {"flavor", "info_cache", "system_metadata", "metadata", "tags"}) {
        if (!entry.object->has(field) && whole->has(field)) {
            missing.set(field, *whole->get(field));
        }
    }
    missing.set("obj_what_changed", Json::array_of(entry.object->changes()));
    const auto applied = entry.object->apply_updates(missing);
    if (!applied.ok()) {
        log_warn("nova", "a server's record is incomplete", {{"why", applied.error().text()}});
    }
}

void NovaConductor::announce_start(const compute::RequestContext& context, const std::string& uuid,
                                   const std::string& event) {
    if (borders_.notifications == nullptr || !borders_.notifications->wanted()) {
        return;
    }
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    entry->announced = details_of(*entry);
    complete(*entry, uuid);
    if (entry->object) {
        borders_.notifications->started(event, *entry->object,
                                        wire_context(context, borders_.clock, borders_.random),
                                        entry->announced);
    }
}

void NovaConductor::announce_end(const compute::RequestContext& context, const std::string& uuid,
                                 const std::string& event, const std::optional<Error>& failure) {
    if (borders_.notifications == nullptr || !borders_.notifications->wanted()) {
        return;
    }
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    complete(*entry, uuid);
    if (entry->object) {
        borders_.notifications->finished(event, *entry->object,
                                         wire_context(context, borders_.clock, borders_.random),
                                         entry->announced, failure);
    }
}

Result<void> NovaConductor::action_event_start(const compute::RequestContext& context,
                                               const std::string& uuid, const std::string& event,
                                               const std::string& host) {
    TRY(borders_.objects.class_action(wire_context(context, borders_.clock, borders_.random),
                                      "InstanceActionEvent", "event_start",
                                      text_arguments({uuid, event}),
                                      Json::object({{"want_result", false}, {"host", host}})));
    announce_start(context, uuid, event);
    return {};
}

Result<void> NovaConductor::action_event_finish(const compute::RequestContext& context,
                                                const std::string& uuid, const std::string& event,
                                                const std::optional<Error>& failure) {
    announce_end(context, uuid, event, failure);
    Json kwargs = Json::object({{"exc_val", nullptr}, {"exc_tb", nullptr}, {"want_result", false}});
    if (failure) {
        kwargs.set("exc_val", failure->message);
        kwargs.set("exc_tb", failure->text());
    }
    TRY(borders_.objects.class_action(wire_context(context, borders_.clock, borders_.random),
                                      "InstanceActionEvent", "event_finish_with_failure",
                                      text_arguments({uuid, event}), std::move(kwargs)));
    return {};
}

Result<void> NovaConductor::reschedule_build(const compute::RequestContext& context,
                                             const std::string& uuid, const Error& reason) {
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    Json* retry = nullptr;
    if (entry->build) {
        Json* filters = entry->build->arguments.find("filter_properties");
        retry = filters == nullptr ? nullptr : filters->find("retry");
    }
    if (retry == nullptr || !retry->is_object()) {
        return Error::unsupported("the build of server {} may not be tried on another host", uuid);
    }
    retry->set("exc", Json::array_of(std::vector<std::string>{reason.text()}));
    retry->set("exc_reason", reason.message);
    compute::InstanceUpdate update;
    update.task_state = std::optional<std::string>(compute::task_states::kScheduling);
    update.host = "";
    update.node = "";
    if (!entry->object) {
        TRY(load(*entry, uuid));
    }
    if (entry->object->text("vm_state") != compute::vm_states::kBuilding) {
        update.vm_state = compute::vm_states::kBuilding;  // an answer that it is active was lost
    }
    TRY(save(*entry, uuid, update));
    TRY(borders_.allocations.remove(context, uuid));
    const Json& given = entry->build->arguments;
    Json arguments = Json::object();
    Json instances = Json::array();
    instances.push_back(entry->object->primitive());
    arguments.set("instances", std::move(instances));
    for (const char* key : {"image", "filter_properties", "admin_password", "injected_files",
                            "requested_networks", "security_groups", "request_spec"}) {
        const Json* value = given.find(key);
        arguments.set(key, value == nullptr ? Json() : *value);
    }
    Json hosts = Json::array();
    const Json* host_list = given.find("host_list");
    hosts.push_back(host_list == nullptr ? Json() : *host_list);
    arguments.set("host_lists", std::move(hosts));
    amqp::Target target;
    target.topic = "conductor";
    target.namespace_ = "compute_task";
    target.version = "1.19";
    TRY(borders_.objects.rpc().cast(target, wire_context(context, borders_.clock, borders_.random),
                                    "build_instances", std::move(arguments)));
    borders_.node.count_build(false);
    entry->build.reset();
    return {};
}

compute::TaskArguments NovaConductor::task_arguments(const std::string& uuid) {
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    return entry->arguments;
}

void NovaConductor::recall(const std::string& uuid, const compute::TaskArguments& arguments) {
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    if (entry->arguments == compute::TaskArguments()) {  // else a newer request's
        entry->arguments = arguments;
    }
}

Result<void> NovaConductor::migration_save(const std::string& uuid, const std::string& status) {
    const auto entry = server(uuid);
    const std::lock_guard lock(entry->mutex);
    if (!entry->migration) {
        return {};
    }
    entry->migration->set("status", status);
    TRY(borders_.objects.action(context_of(*entry), *entry->migration, "save"));
    return {};
}

Result<void> NovaConductor::drop_allocations_of(const Json& context, const std::string& consumer) {
    return borders_.allocations.remove(request_context(context), consumer);
}

Result<void> NovaConductor::poll_servers(const std::string& /*host*/) {
    const auto uuids = TRY(uuids_here());
    const int64_t now = borders_.clock.monotonic_ns();
    const int64_t sync_ns = borders_.scheduler_sync_s * kNanosPerSecond;
    if (sync_ns > 0 && (!schedulers_told_ns_ || now - *schedulers_told_ns_ >= sync_ns)) {
        borders_.scheduler.all(uuids);
        schedulers_told_ns_ = now;
    }
    return audit_allocations({uuids.begin(), uuids.end()});
}

Result<std::vector<std::string>> NovaConductor::uuids_here() {
    const auto objects = TRY(borders_.objects.class_objects(
        admin_context(borders_.clock, borders_.random), "InstanceList", "get_by_host",
        text_arguments({borders_.node.host()}), Json::object({{"expected_attrs", Json::array()}})));
    std::vector<std::string> uuids;
    for (const NovaObject& object : objects) {
        uuids.push_back(object.text("uuid"));
    }
    return uuids;
}

// A build (or unshelve) that the last run of this node was sent and lost before it took the server:
// it is in no list of this host's servers. Requests that waited in the broker meanwhile have come
// by now: the first look is a minute after the start.
bool NovaConductor::is_lost_build(const NovaObject& instance) {
    const auto changed = parse_iso8601(instance.text("updated_at", instance.text("created_at")));
    const std::string vm_state = instance.text("vm_state");
    if ((vm_state != compute::vm_states::kBuilding &&
         vm_state != compute::vm_states::kShelvedOffloaded) ||
        !instance.text("host").empty() || !changed || *changed >= started_wall_ns_ ||
        has_left(instance) || instance.boolean("deleted")) {
        return false;
    }
    const auto entry = server(instance.text("uuid"));
    const std::lock_guard lock(entry->mutex);
    return !entry->build;
}

Result<void> NovaConductor::end_lost_build(const NovaObject& instance) {
    const std::string uuid = instance.text("uuid");
    log_warn("nova", "a build was lost when this node went down", {{"server", uuid}});
    if (instance.text("vm_state") == compute::vm_states::kShelvedOffloaded) {
        compute::InstanceUpdate shelved =
            compute::to_task_state(std::nullopt, {instance.optional_text("task_state")});
        shelved.host = "";
        return instance_save(uuid, shelved);
    }
    const Error reason = Error::unavailable("The node was restarted before it began this server")
                             .with_hint("Delete it and ask for it again.");
    compute::InstanceUpdate update;
    update.vm_state = compute::vm_states::kError;
    update.task_state = std::optional<std::string>();
    update.expected_task_state = {{compute::task_states::kScheduling, std::nullopt}};
    update.host = "";
    TRY(instance_save(uuid, update));  // frees its allocation too
    return fault_create(uuid, compute::fault_from(reason, borders_.clock));
}

// What is allocated here for a server that is deleted. One that no record knows may be a migration
// or not be recorded yet; one of another host may be on its way here: both are left alone.
Result<void> NovaConductor::audit_allocations(const std::set<std::string>& here) {
    const auto provider = borders_.node.uuid();
    if (!provider) {
        return {};
    }
    const auto consumers = TRY(borders_.allocations.consumers_on(*provider));
    Json context = admin_context(borders_.clock, borders_.random);
    context.set("read_deleted", "yes");
    for (const std::string& consumer : consumers) {
        if (here.contains(consumer)) {
            continue;
        }
        const auto instance = borders_.objects.class_object(
            context, "Instance", "get_by_uuid", text_arguments({consumer}),
            Json::object({{"expected_attrs", Json::array()}}));
        if (instance.ok() && is_lost_build(*instance)) {
            compute::warn_unless_ok(end_lost_build(*instance), "a lost build was not ended");
            continue;
        }
        if (!instance.ok() || !(instance->boolean("deleted") || has_left(*instance))) {
            continue;
        }
        log_info("nova", "a server that is gone still had an allocation; it is removed",
                 {{"server", consumer}});
        TRY(borders_.allocations.remove(request_context(context), consumer));
    }
    return {};
}

Result<void> NovaConductor::service_heartbeat(const std::string& /*host*/) {
    return borders_.node.heartbeat();
}

Result<void> NovaConductor::compute_node_update(const compute::ComputeNode& node) {
    return borders_.node.update(node);
}

}  // namespace kumoi::nova
