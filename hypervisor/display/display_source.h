// DisplaySource: a picture that can be looked at: its size, and its pixels copied out row by row.
// Pixels are 32 bits, 0x00RRGGBB in host order. Thread safe: the viewer's thread asks while vCPUs
// draw; a picture torn by that is right again at the next look.
#pragma once

#include <cstdint>
#include <span>

namespace kumoi::hypervisor {

constexpr uint32_t kDisplayWidthMax = 2560;
constexpr uint32_t kDisplayHeightMax = 1600;

struct DisplayMode {
    uint32_t width = 0;  // pixels, 1 to kDisplayWidthMax
    uint32_t height = 0;
    bool operator==(const DisplayMode&) const = default;
};

class DisplaySource {
public:
    virtual ~DisplaySource() = default;
    virtual DisplayMode mode() const = 0;
    // Row `y` of the picture as it is now; `out` is as wide as the mode that the caller saw. False
    // when the mode has changed meanwhile: ask again.
    virtual bool read_row(const DisplayMode& mode, uint32_t y, std::span<uint32_t> out) const = 0;
};

}  // namespace kumoi::hypervisor
