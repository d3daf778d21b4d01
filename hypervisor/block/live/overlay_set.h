// OverlaySet: new overlays for several running disks, made beforehand and entered in one moment, so
// that the images below are all of one instant (and of that of a memory snapshot taken with them).
// Control thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "hypervisor/block/qcow2/qcow2_image.h"

namespace kumoi::hypervisor {

struct OverlayRequest {
    std::string disk;     // its id
    std::string path;     // absolute: an empty file, or none yet
    std::string backing;  // what the overlay calls the disk's present image; empty: its path

    // {disk, overlay, backing}
    static Result<OverlayRequest> parse(const JsonView& params);
};

class OverlaySet {
public:
    // What a disk goes on in, once it has been entered.
    struct Overlay {
        std::string disk;
        std::string path;
        std::string below;
        bool entered = false;
        Qcow2Image* image = nullptr;
        std::unique_ptr<qcow2::Store> store;  // until it is entered
    };

    void add(Overlay overlay) { overlays_.push_back(std::move(overlay)); }
    // Every disk at a standstill. After an error the disks that had been entered stay so: each
    // overlay alone is right, only the instant is not shared.
    Result<void> enter();
    const std::vector<Overlay>& overlays() const { return overlays_; }
    Json json() const;  // [{disk, overlay, below}] of those that were entered

private:
    std::vector<Overlay> overlays_;
};

}  // namespace kumoi::hypervisor
