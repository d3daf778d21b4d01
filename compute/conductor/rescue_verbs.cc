// Conductor: rescue and rebuild, the verbs that give a server another image to boot from.
#include "compute/conductor/conductor.h"
#include "compute/conductor/request_checks.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

Error unsupported_rescue_image(const std::string& image_id, std::string_view why) {
    return Error::invalid("Requested rescue image '{}' is not valid: {}", image_id, why)
        .with_fault("UnsupportedRescueImage");
}

}  // namespace

Result<void> Conductor::rescue_server(const RequestContext& context, const std::string& uuid,
                                      const std::string& image_id,
                                      const std::string& admin_password) {
    if (!image_id.empty()) {
        const auto image = images_.show(context, image_id);
        if (!image.ok()) {
            return image.error().code == ErrorCode::NotFound
                       ? unsupported_rescue_image(image_id, "it could not be found")
                       : image.error();
        }
        if (image->status != "active") {
            return unsupported_rescue_image(image_id, "its status is " + image->status);
        }
    }
    TRY(run_verb(context, uuid,
                 VerbCall{ServerVerb::Rescue, task_states::kRescuing,
                          [&](ComputeApi& api) {
                              return api.rescue_instance({context, uuid, admin_password});
                          },
                          [&](Instance& instance) -> Result<void> {
                              instance.task_arguments.image_id = image_id;
                              return {};
                          }}));
    return {};
}

Result<void> Conductor::unrescue_server(const RequestContext& context, const std::string& uuid) {
    return run_verb(context, uuid, ServerVerb::Unrescue, task_states::kUnrescuing,
                    [&](ComputeApi& api) { return api.unrescue_instance(context, uuid); });
}

Result<InstancePtr> Conductor::rebuild_server(const RebuildServer& request) {
    const RequestContext& context = request.context;
    Instance wanted = TRY(instances_.get(request.uuid))->instance;
    auto image = images_.show(context, request.image_id);
    if (!image.ok()) {
        return image.error().code == ErrorCode::NotFound
                   ? Error::invalid("Cannot find image for rebuild")
                         .with_hint(fmt::format("Image {} could not be found.", request.image_id))
                         .with_fault("ImageNotFound")
                   : image.error();
    }
    wanted.image = std::move(image).value();
    wanted.image_id = wanted.image.id;
    TRY(check_image(wanted));
    set_image_metadata(wanted);
    std::string key_data;
    if (request.key_name && *request.key_name) {
        const auto keypair = keypairs_.get(wanted.user_id, **request.key_name);
        if (!keypair.ok()) {
            return Error::invalid("Invalid key_name provided.")
                .with_hint("openstack keypair list shows your keys.")
                .with_fault("KeypairNotFound");
        }
        key_data = keypair->public_key;
    }
    const auto change = [&](Instance& instance) -> Result<void> {
        instance.image = wanted.image;
        instance.image_id = wanted.image_id;
        instance.system_metadata = wanted.system_metadata;
        instance.display_name = request.name.value_or(instance.display_name);
        instance.hostname = request.hostname.value_or(instance.hostname);
        instance.display_description = request.description.value_or(instance.display_description);
        instance.metadata = request.metadata.value_or(instance.metadata);
        instance.auto_disk_config = request.auto_disk_config.value_or(instance.auto_disk_config);
        instance.access_ip_v4 = request.access_ip_v4.value_or(instance.access_ip_v4);
        instance.access_ip_v6 = request.access_ip_v6.value_or(instance.access_ip_v6);
        if (request.key_name) {
            instance.key_name = request.key_name->value_or("");
            instance.key_data = key_data;
        }
        if (request.user_data) {
            instance.user_data = request.user_data->value_or("");
        }
        instance.progress = 0;
        instance.task_arguments.preserve_ephemeral = request.preserve_ephemeral;
        instance.task_arguments.injected_files = request.injected_files;
        return {};
    };
    return run_verb(
        context, request.uuid,
        VerbCall{ServerVerb::Rebuild, task_states::kRebuilding,
                 [&](ComputeApi& api) {
                     return api.rebuild_instance({context, request.uuid, request.admin_password});
                 },
                 change});
}

}  // namespace kumoi::compute
