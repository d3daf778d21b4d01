// Every image property that asks something of a machine, and what this driver does about it: the
// table that check_image_properties() works by and docs/reference/image-properties.md shows.
// Properties that are not in it (os_distro, ...) describe the image and change nothing. Pure.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct ImageProperty {
    enum class Handling {
        Honoured,  // the machine follows it; what it cannot follow is refused where it is read
        Accepted,  // these values mean what the machine is anyway; every other one is refused
        Refused,   // whatever its value
        Ignored,
    };
    std::string_view name;
    Handling handling = Handling::Ignored;
    std::vector<std::string_view> values;  // of Accepted; compared without regard to case
    std::string_view why;
};

std::span<const ImageProperty> image_properties();
// The rows of Accepted and Refused.
Result<void> check_image_properties(const Properties& image);

}  // namespace kumoi::compute
