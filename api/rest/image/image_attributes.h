// Sets attributes of an image from a request body, with Glance's rules: which are read-only, which
// values are allowed, who may set them. Used by create and update alike. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "api/rest/context.h"
#include "base/json.h"
#include "base/result.h"
#include "compute/images/image_store.h"

namespace kumoi::api {

enum class AttributeUse { Create, Update };

// Forbidden for read-only and reserved names and what the caller's roles do not allow;
// InvalidArgument for values that do not fit.
Result<void> set_image_attribute(compute::Image& image, const std::string& name, const Json& value,
                                 AttributeUse use, const AuthContext& who);
// Custom properties only; Conflict when there is none of that name.
Result<void> remove_image_attribute(compute::Image& image, const std::string& name);
bool is_base_attribute(std::string_view name);  // everything that is no custom property
Result<std::string> check_tag(const Json& value);

constexpr size_t kImageTagsMax = 128;
constexpr size_t kImagePropertiesMax = 128;

}  // namespace kumoi::api
