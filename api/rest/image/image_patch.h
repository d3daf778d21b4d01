// The update document of PATCH /v2/images/{id}: media type
// application/openstack-images-v2.1-json-patch (RFC 6902's add, replace, remove on whole
// attributes) or the older -v2.0-. Pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "api/rest/context.h"
#include "base/json.h"
#include "base/result.h"
#include "compute/images/image_store.h"

namespace kumoi::api {

enum class PatchVerb { Add, Replace, Remove };

struct PatchOperation {
    PatchVerb verb = PatchVerb::Add;
    std::string attribute;
    Json value;  // null for Remove
};

// UnsupportedMediaType (fault) for another content type; InvalidArgument for a malformed document.
Result<std::vector<PatchOperation>> parse_image_patch(std::string_view content_type,
                                                      std::string_view body);
Result<void> apply_image_patch(compute::Image& image, const std::vector<PatchOperation>& operations,
                               const AuthContext& who);

}  // namespace kumoi::api
