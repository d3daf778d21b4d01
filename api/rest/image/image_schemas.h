// The JSON schemas Glance publishes and its client reads before it sends anything, and the version
// documents. Constant; any thread.
#pragma once

#include "api/http/router.h"

namespace kumoi::api {

void add_image_schema_routes(Router& router);
void add_image_version_routes(Router& router);  // "/", "/versions": need no token

}  // namespace kumoi::api
