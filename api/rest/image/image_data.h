// Image data: PUT and GET /v2/images/{id}/file, streamed with constant memory in both directions.
// Any thread (the server's stream threads).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "api/http/router.h"
#include "compute/images/image_store.h"

namespace kumoi::api {

void add_image_data_routes(Router& router, compute::ImageStore& store);

// One range of bytes, both ends inclusive in the header, as offset and length here.
struct ByteRange {
    uint64_t offset = 0;
    uint64_t length = 0;
};
// RFC 9110 §14.1.2: "bytes=0-99", "bytes=100-", "bytes=-100". nullopt when the header asks for
// something else (several ranges, another unit), which is answered with the whole. An error when
// the range lies outside the data.
Result<std::optional<ByteRange>> parse_range(std::string_view header, uint64_t size);

}  // namespace kumoi::api
