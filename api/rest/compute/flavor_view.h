// How a flavor looks in answers at each microversion, and finding the one a path names.
#pragma once

#include "api/rest/compute/compute_api.h"

namespace kumoi::api {

// {flavor_id}: 404 also when it is private to other projects.
Result<compute::Flavor> find_flavor(const Call& call);
Json flavor_summary(const Call& call, const compute::Flavor& flavor);
Json flavor_view(const Call& call, const compute::Flavor& flavor);
Json properties_view(const compute::Properties& properties);

}  // namespace kumoi::api
