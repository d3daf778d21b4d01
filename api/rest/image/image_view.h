// Images and members as the API shows them. Pure functions.
#pragma once

#include <string>

#include "base/json.h"
#include "compute/images/image_store.h"

namespace kumoi::api {

Json show_image(const compute::Image& image);
Json show_member(const compute::ImageMember& member);

}  // namespace kumoi::api
