// ImageApi: what the manager asks of the image service (Glance's part). Standalone: an adapter over
// compute/images/image_store. Any thread; may block for as long as a download takes.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

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

    // A queued image of the caller's project with name, formats, minima and properties of `meta`;
    // its id is made. The caller owns it.
    virtual Result<ImageMeta> create(const RequestContext& context, const ImageMeta& meta) = 0;
    // Fills buffers from the start to the end of the data; 0 bytes: the end.
    using Source = std::function<Result<size_t>(std::span<std::byte> buffer, uint64_t offset)>;
    // Gives a queued image its disk format, minima and data; then it is active. When the data
    // breaks off it stays queued. An image that is active already is left alone.
    virtual Result<void> upload(const RequestContext& context, const std::string& image_id,
                                const ImageMeta& meta, const Source& source) = 0;
    virtual Result<void> remove(const RequestContext& context,
                                const std::string& image_id) = 0;  // absent is fine
    // Images of the caller's project that have all these properties, newest first.
    virtual Result<std::vector<ImageMeta>> list(const RequestContext& context,
                                                const Properties& with) = 0;
};

}  // namespace kumoi::compute
