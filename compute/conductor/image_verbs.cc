// Conductor: the verbs that make an image of a server. The image is made here, queued, with the
// properties Nova gives it; the node fills it.
#include <algorithm>

#include "compute/conductor/conductor.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

// Properties that belong to one image file and not to what is made from it (Nova's
// non_inheritable_image_properties, and what a snapshot says of itself).
bool is_inherited(const std::string& name) {
    static const std::vector<std::string_view> own = {
        "cache_in_nova", "bittorrent",     "instance_uuid", "user_id",        "image_type",
        "backup_type",   "base_image_ref", "owner_id",      "image_location", "image_state"};
    return std::find(own.begin(), own.end(), name) == own.end() &&
           !name.starts_with("img_signature") && !name.starts_with("os_glance_") &&
           !name.starts_with("owner_specified.");
}

}  // namespace

Result<ImageMeta> Conductor::queue_snapshot(const RequestContext& context, const Instance& instance,
                                            const std::string& name, const Properties& properties) {
    ImageMeta meta;
    meta.name = name;
    meta.disk_format = "raw";
    meta.container_format = "bare";
    meta.min_disk_gb = instance.image.min_disk_gb;
    meta.min_ram_mb = instance.image.min_ram_mb;
    for (const auto& [key, value] : instance.image.properties) {
        if (is_inherited(key)) {
            meta.properties[key] = value;
        }
    }
    const auto base = instance.system_metadata.find("image_base_image_ref");
    meta.properties["base_image_ref"] =
        base == instance.system_metadata.end() ? instance.image_id : base->second;
    meta.properties["instance_uuid"] = instance.uuid;
    meta.properties["user_id"] = context.user_id;
    for (const auto& [key, value] : properties) {
        meta.properties[key] = value;
    }
    return images_.create(context, meta);
}

Result<std::string> Conductor::run_snapshot(const RequestContext& context, const std::string& uuid,
                                            const std::string& name, const Properties& properties,
                                            VerbCall call) {
    const InstancePtr stored = TRY(instances_.get(uuid));
    if (!call.ignores_lock) {
        TRY(check_lock(context, stored->instance));
    }
    TRY(check_instance_state(stored->instance, call.verb));  // before an image is made in vain
    const ImageMeta image = TRY(queue_snapshot(context, stored->instance, name, properties));
    call.change = [&, before = call.change](Instance& instance) -> Result<void> {
        instance.task_arguments.image_id = image.id;
        return before ? before(instance) : Result<void>();
    };
    const auto accepted = run_verb(context, uuid, call);
    if (!accepted.ok()) {
        TRY(images_.remove(context, image.id));
        return accepted.error();
    }
    return image.id;
}

Result<std::string> Conductor::create_image(const RequestContext& context, const std::string& uuid,
                                            const std::string& name, const Properties& properties) {
    Properties all = properties;
    all["image_type"] = "snapshot";
    return run_snapshot(
        context, uuid, name, all,
        VerbCall{ServerVerb::CreateImage,
                 task_states::kImageSnapshotPending,
                 [&](ComputeApi& api) { return api.snapshot_instance(context, uuid); },
                 {},
                 {},
                 true});
}

Result<std::string> Conductor::create_backup(const RequestContext& context, const std::string& uuid,
                                             const std::string& name, const Properties& properties,
                                             const std::string& backup_type, int64_t rotation) {
    Properties all = properties;
    all["image_type"] = "backup";
    all["backup_type"] = backup_type;
    return run_snapshot(
        context, uuid, name, all,
        VerbCall{ServerVerb::CreateBackup,
                 task_states::kImageBackup,
                 [&](ComputeApi& api) { return api.backup_instance(context, uuid); },
                 [&](Instance& instance) -> Result<void> {
                     instance.task_arguments.backup_type = backup_type;
                     instance.task_arguments.rotation = rotation;
                     return {};
                 },
                 {},
                 true});
}

}  // namespace kumoi::compute
