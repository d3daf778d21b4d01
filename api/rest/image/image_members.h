// Members: the projects a shared image is shared with. The owner adds and removes them, each member
// accepts or rejects for itself. Any thread.
#pragma once

#include "api/http/router.h"
#include "compute/images/image_store.h"

namespace kumoi::api {

void add_image_member_routes(Router& router, compute::ImageStore& store);

}  // namespace kumoi::api
