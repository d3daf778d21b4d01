// Who may do what with an image, by Glance's rule names. An image that the caller may not see does
// not exist for it: 404, never 403. Pure but for the store's lookups; any thread.
#pragma once

#include <string>
#include <string_view>

#include "api/rest/context.h"
#include "api/rest/policy.h"
#include "compute/images/image_store.h"

namespace kumoi::api {

const Policy& image_policy();

// NotFound unless the caller may see it.
Result<compute::Image> visible_image(const compute::ImageStore& store, const AuthContext& who,
                                     const std::string& id);
// The same, and Forbidden unless the caller passes `rule` as a member of the owning project.
Result<compute::Image> image_for(const compute::ImageStore& store, const AuthContext& who,
                                 const std::string& id, std::string_view rule);

}  // namespace kumoi::api
