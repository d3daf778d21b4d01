#include "api/nova/server_records.h"

#include <charconv>
#include <set>

#include "api/nova/device_metadata_object.h"
#include "api/nova/oslo_context.h"
#include "base/uuid.h"
#include "compute/manager/verb.h"

namespace kumoi::nova {
namespace {

std::set<std::string> texts(const Json* list) {
    std::set<std::string> all;
    if (list != nullptr && list->is_array()) {
        for (const Json& one : list->as_array()) {
            if (one.is_string()) {
                all.insert(one.as_string());
            }
        }
    }
    return all;
}

// Of an anti-affinity group; rules are kept as text.
size_t servers_per_host(const NovaObject& group) {
    size_t most = 1;
    const Json* rules = group.get("_rules");
    const std::string text = rules == nullptr ? "" : rules->string_or("max_server_per_host");
    std::from_chars(text.data(), text.data() + text.size(), most);
    return most;
}

Error violated(const std::string& policy) {
    return Error::conflict("{} instance group policy was violated", policy)
        .with_fault("GroupAffinityViolation");
}

}  // namespace

Result<void> ServerRecords::save_devices(const compute::RequestContext& /*context*/,
                                         const std::string& uuid,
                                         const std::vector<compute::TaggedDevice>& devices) {
    return borders_.conductor.with_server(
        uuid, [&](const NovaConductor::Known& known) -> Result<void> {
            NovaObject changed = known.instance;
            changed.set("device_metadata", device_metadata(borders_.objects.table(), devices));
            TRY(borders_.objects.action(known.context, changed, "save"));
            known.instance = std::move(changed);
            return {};
        });
}

Result<std::optional<NovaObject>> ServerRecords::group_of(const Json& context,
                                                          const std::string& uuid, bool on_build) {
    std::string method = "get_by_instance_uuid";
    std::string key = uuid;
    if (on_build) {
        key = borders_.conductor.group_hint(uuid);
        if (key.empty()) {
            return std::optional<NovaObject>();
        }
        method = Uuid::parse(key) ? "get_by_uuid" : "get_by_name";
    }
    auto group =
        borders_.objects.class_object(context, "InstanceGroup", method, text_arguments({key}));
    if (!group.ok() && !on_build && group.error().fault == "InstanceGroupNotFound") {
        return std::optional<NovaObject>();
    }
    return std::optional<NovaObject>(TRY(std::move(group)));
}

Result<void> ServerRecords::check_group(const compute::RequestContext& context,
                                        const std::string& uuid, bool on_build) {
    if (!borders_.checks_groups) {
        return {};
    }
    const Json wire = elevated(wire_context(context, borders_.clock, borders_.random));
    auto group = TRY(group_of(wire, uuid, on_build));
    if (!group) {
        return {};
    }
    const std::lock_guard lock(group_mutex_);
    const std::string policy = group->text("policy");
    if (policy == "anti-affinity") {
        return check_apart(wire, uuid, *group);
    }
    return policy == "affinity" ? check_together(wire, uuid, std::move(*group)) : Result<void>();
}

Result<void> ServerRecords::check_apart(const Json& context, const std::string& uuid,
                                        const NovaObject& group) {
    const std::string& host = borders_.node.host();
    const Json here = TRY(borders_.objects.class_action(
        context, "InstanceList", "get_uuids_by_host", text_arguments({host})));
    std::set<std::string> servers = texts(&here);
    for (const NovaObject& migration : TRY(borders_.objects.class_objects(
             context, "MigrationList", "get_in_progress_by_host_and_node",
             text_arguments({host, host})))) {
        servers.insert(migration.text("instance_uuid"));
    }
    // Its members of this moment.
    const auto now = TRY(borders_.objects.class_object(context, "InstanceGroup", "get_by_uuid",
                                                       text_arguments({group.text("uuid")})));
    size_t others = 0;
    for (const std::string& member : texts(now.get("members"))) {
        others += member != uuid && servers.contains(member) ? 1 : 0;
    }
    return others >= servers_per_host(now) ? Result<void>(violated("Anti-affinity"))
                                           : Result<void>();
}

Result<void> ServerRecords::check_together(const Json& context, const std::string& uuid,
                                           NovaObject group) {
    const Json hosts = TRY(borders_.objects.action(
        context, group, "get_hosts", {},
        Json::object({{"exclude", Json::array_of(std::vector<std::string>{uuid})}})));
    const std::set<std::string> names = texts(&hosts);
    return names.empty() || names.contains(borders_.node.host())
               ? Result<void>()
               : Result<void>(violated("Affinity"));
}

void ServerRecords::volume_started(const compute::RequestContext& context, const std::string& uuid,
                                   const compute::VolumeNews& news) {
    if (borders_.notifications == nullptr || !borders_.notifications->wanted()) {
        return;
    }
    borders_.conductor.with_complete(uuid, [&](const NovaObject& instance) {
        borders_.notifications->volume_started(
            news, instance, wire_context(context, borders_.clock, borders_.random));
    });
}

void ServerRecords::volume_ended(const compute::RequestContext& context, const std::string& uuid,
                                 const compute::VolumeNews& news, const Result<void>& result) {
    if (borders_.notifications == nullptr || !borders_.notifications->wanted()) {
        return;
    }
    const auto failure = result.ok() ? std::nullopt : std::optional(result.error());
    borders_.conductor.with_complete(uuid, [&](const NovaObject& instance) {
        borders_.notifications->volume_ended(
            news, instance, wire_context(context, borders_.clock, borders_.random), failure);
    });
}

}  // namespace kumoi::nova
