// ComputeEndpoint, part three: volumes.
#include "api/nova/block_devices.h"
#include "api/nova/compute_endpoint.h"
#include "api/nova/compute_endpoint_call.h"

namespace kumoi::nova {

Result<Json> ComputeEndpoint::reserve_block_device_name(Call& call) {
    compute::ReserveDeviceRequest request;
    request.context = call.context;
    request.uuid = TRY(adopt(call));
    request.volume_id = call.text("volume_id");
    request.device_name = call.text("device");
    request.disk_bus = call.text("disk_bus");
    request.device_type = call.text("device_type");
    request.tag = call.text("tag");
    const compute::BlockDevice device = TRY(borders_.manager.reserve_block_device_name(request));
    return block_device_object(borders_.objects.table(), device).primitive();
}

Result<Json> ComputeEndpoint::attach_volume(Call& call) {
    const Json* primitive = call.argument("bdm");
    if (primitive == nullptr) {
        return Error::invalid("attach_volume: the block device mapping is missing")
            .with_fault("TypeError");
    }
    const auto object = TRY(borders_.objects.receive(*call.context.wire, *primitive));
    const std::string uuid = TRY(adopt(call));
    TRY(borders_.manager.attach_volume(call.context, uuid, block_device_from(object)));
    return Json();
}

Result<Json> ComputeEndpoint::detach_volume(Call& call) {
    const std::string uuid = TRY(adopt(call));
    TRY(borders_.manager.detach_volume(call.context, uuid, call.text("volume_id"),
                                       call.text("attachment_id")));
    return Json();
}

Result<Json> ComputeEndpoint::swap_volume(Call& call) {
    compute::SwapVolumeRequest request;
    request.context = call.context;
    request.uuid = TRY(adopt(call));
    request.old_volume_id = call.text("old_volume_id");
    request.new_volume_id = call.text("new_volume_id");
    request.new_attachment_id = call.text("new_attachment_id");
    TRY(borders_.manager.swap_volume(request));
    return Json();
}

Result<Json> ComputeEndpoint::extend_volume(Call& call) {
    const std::string uuid = TRY(adopt(call));
    const compute::ServerEvent extended{compute::ServerEvent::Kind::VolumeExtended,
                                        call.text("extended_volume_id")};
    TRY(borders_.manager.external_instance_event(call.context, uuid, extended));
    return Json();
}

Result<Json> ComputeEndpoint::remove_volume_connection(Call& call) {
    const std::string uuid = TRY(adopt(call));
    TRY(borders_.manager.remove_volume_connection(call.context, uuid, call.text("volume_id"),
                                                  call.boolean("delete_attachment", false)));
    return Json();
}

}  // namespace kumoi::nova
