// DisplayConfig: the member "display" of guest.json: the picture, the input devices beside it and
// where viewers connect. Plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::hypervisor {

struct VncListen {
    std::string socket;  // path of a unix socket, or
    std::string host;    // a numeric address with
    uint16_t port = 0;
    bool websocket = false;
};

struct DisplayConfig {
    bool enabled = false;  // the member is there
    uint32_t width = 1280;
    uint32_t height = 800;
    uint32_t memory_mib = 16;
    bool tablet = true;
    bool keyboard = true;  // the virtio one; the PS/2 keyboard is always there
    std::string vgabios;   // option ROM for firmware's text screens; empty: none
    std::vector<VncListen> vnc;
};

// `view` is the member; relative paths are taken from `base`.
Result<DisplayConfig> parse_display(const JsonView& view, const std::string& base);

}  // namespace kumoi::hypervisor
