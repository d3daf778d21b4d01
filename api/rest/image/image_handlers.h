// Records of images: create, list, show, update, delete, tags, deactivate. Parse, ask the store,
// render; the rules are in image_attributes, image_access and the store. Any thread.
#pragma once

#include "api/http/router.h"
#include "compute/images/image_store.h"

namespace kumoi::api {

void add_image_routes(Router& router, compute::ImageStore& store);

}  // namespace kumoi::api
