// ExtraSpec: one extra spec of a flavor or property of an image, as it was written, and how its
// value is read. Values; errors name the property and its value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct ExtraSpec {
    std::string name;  // "Extra spec hw:cpu_cores"
    std::string value;

    Error invalid(std::string_view why) const;
    Result<int64_t> number(int64_t min, int64_t max) const;
};

std::optional<ExtraSpec> flavor_spec(const Instance& instance, const std::string& name);
std::optional<ExtraSpec> image_spec(const Instance& instance, const std::string& name);
// The flavor decides; the image's property of the same meaning counts where the flavor is silent.
std::optional<ExtraSpec> flavor_or_image(const Instance& instance, const std::string& spec,
                                         const std::string& property);

}  // namespace kumoi::compute
