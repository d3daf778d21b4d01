#include "hypervisor/block/live/overlay_set.h"

namespace kumoi::hypervisor {

Result<OverlayRequest> OverlayRequest::parse(const JsonView& params) {
    OverlayRequest request;
    request.disk = TRY(params.string("disk"));
    request.path = TRY(params.string("overlay"));
    request.backing = TRY(params.string_or("backing", ""));
    if (request.path.empty() || request.path.front() != '/') {
        return Error::invalid("overlay: \"{}\" is not an absolute path", request.path);
    }
    return request;
}

Result<void> OverlaySet::enter() {
    for (Overlay& overlay : overlays_) {
        TRY_CONTEXT(overlay.image->switch_to_overlay(std::move(overlay.store)),
                    "disk {}, overlay {}", overlay.disk, overlay.path);
        overlay.entered = true;
    }
    return {};
}

Json OverlaySet::json() const {
    Json list = Json::array();
    for (const Overlay& overlay : overlays_) {
        if (overlay.entered) {
            list.push_back(Json::object(
                {{"disk", overlay.disk}, {"overlay", overlay.path}, {"below", overlay.below}}));
        }
    }
    return list;
}

}  // namespace kumoi::hypervisor
