// ComputeEndpoint, part three: servers that move between hosts.
#include "api/nova/compute_endpoint_call.h"
#include "api/nova/instance_object.h"

namespace kumoi::nova {
namespace {

using compute::MoveStep;

const std::map<std::string_view, MoveStep>& steps() {
    static const std::map<std::string_view, MoveStep> kSteps = {
        {"prep_resize", MoveStep::PrepResize},
        {"resize_instance", MoveStep::ResizeInstance},
        {"finish_resize", MoveStep::FinishResize},
        {"confirm_resize", MoveStep::ConfirmResize},
        {"revert_resize", MoveStep::RevertResize},
        {"finish_revert_resize", MoveStep::FinishRevertResize},
    };
    return kSteps;
}

Error missing(const std::string& method, std::string_view name) {
    return Error::invalid("{}: {} is missing", method, name).with_fault("TypeError");
}

}  // namespace

// The server and the migration of a request are known from here on.
Result<compute::MoveRequest> ComputeEndpoint::adopt_move(Call& call, MoveStep step) {
    const Json* migration = call.argument("migration");
    if (migration == nullptr || !is_object_primitive(*migration)) {
        return missing(call.request.method, "the migration");
    }
    auto object = TRY(borders_.objects.receive(*call.context.wire, *migration));
    compute::MoveRequest move;
    move.context = call.context;
    move.step = step;
    move.uuid = TRY(adopt(call));
    move.wait = call.request.wants_reply;
    borders_.conductor.adopt_migration(move.uuid, std::move(object), call.request.args);
    return move;
}

Result<Json> ComputeEndpoint::move(Call& call) {
    auto move = TRY(adopt_move(call, steps().at(call.request.method)));
    move.clean_shutdown = call.boolean("clean_shutdown", true);
    move.disk_info = call.text("disk_info");
    if (move.step == MoveStep::PrepResize) {
        const Json* flavor = call.argument("flavor");
        if (flavor == nullptr) {
            flavor = call.argument("instance_type");  // of 5.x
        }
        if (flavor == nullptr || !is_object_primitive(*flavor)) {
            return missing(call.request.method, "the flavor");
        }
        move.flavor = flavor_from(TRY(borders_.objects.receive(*call.context.wire, *flavor)));
    }
    TRY(borders_.manager.move_instance(std::move(move)));
    return Json();
}

// rebuild_instance with recreate.
Result<Json> ComputeEndpoint::evacuate(Call& call) {
    auto move = TRY(adopt_move(call, MoveStep::Evacuate));
    const std::string target_state = call.text("target_state");
    if (!target_state.empty() && target_state != "stopped") {
        return Error::invalid("A server cannot be evacuated into state '{}'", target_state)
            .with_fault("InstanceEvacuateNotSupportedTargetState");
    }
    move.leave_stopped = target_state == "stopped";
    move.admin_password = call.text("new_pass");
    const Json* shared = call.argument("on_shared_storage");
    if (shared != nullptr && shared->is_bool()) {
        move.on_shared_storage = shared->as_bool();
    }
    TRY(borders_.manager.move_instance(std::move(move)));
    return Json();
}

// Another host asks whether it and we use the same folders: it has made a file.
Result<Json> ComputeEndpoint::shared_storage(Call& call) {
    const Json* data = call.argument("data");
    const std::string name = data == nullptr ? "" : data->string_or("filename");
    return Json(borders_.manager.has_probe(name));
}

}  // namespace kumoi::nova
