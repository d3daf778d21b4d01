// Glance's image JSON as compute::ImageMeta and back into the bodies Glance wants. Pure functions.
#pragma once

#include "base/json.h"
#include "compute/objects.h"

namespace kumoi::clients {

Result<compute::ImageMeta> parse_image(const Json& image);
// POST /v2/images
Json new_image_body(const compute::ImageMeta& meta);
// The JSON patch that gives the image `now` the formats, minima and properties of `wanted`; an
// empty array when it has them.
Json image_patch(const Json& now, const compute::ImageMeta& wanted);

}  // namespace kumoi::clients
