// ImageApi: what the manager asks of the image service (Glance's part). Standalone: an adapter over
// compute/images/image_store. Any thread; may block for as long as a download takes.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "base/result.h"
#include "compute/manager/conductor_api.h"
#include "compute/objects.h"

namespace kumoi::compute {

class ImageApi {
public:
    virtual ~ImageApi() = default;
    virtual Result<ImageMeta> show(const RequestContext& context, const std::string& image_id) = 0;
    // Calls `sink` with the bytes in order; an error from the sink ends the download with that
    // error.
    virtual Result<void> download(
        const RequestContext& context, const std::string& image_id,
        const std::function<Result<void>(std::span<const std::byte>)>& sink) = 0;
};

}  // namespace kumoi::compute
