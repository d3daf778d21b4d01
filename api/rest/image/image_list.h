// GET /v2/images: which images of the store a caller gets, in what order, one page at a time. Pure
// but for the store's snapshot.
#pragma once

#include <string>
#include <vector>

#include "api/http/request.h"
#include "api/rest/context.h"
#include "base/json.h"
#include "base/result.h"
#include "compute/images/image_store.h"

namespace kumoi::api {

constexpr int64_t kImagePageDefault = 25;
constexpr int64_t kImagePageMax = 1000;

// The whole answer: {"images": [...], "first": ..., "next": ..., "schema": ...}.
Result<Json> list_images(const compute::ImageStore& store, const AuthContext& who,
                         const QueryMap& query);

}  // namespace kumoi::api
