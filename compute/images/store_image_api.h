// StoreImageApi: what nodes and conductor ask of the image service when it runs in the same
// process. Other projects' images do not exist for the asker. Any thread.
#pragma once

#include "compute/images/image_store.h"
#include "compute/manager/image_api.h"

namespace kumoi::compute {

class StoreImageApi final : public ImageApi {
public:
    explicit StoreImageApi(ImageStore& store) : store_(store) {}

    Result<ImageMeta> show(const RequestContext& context, const std::string& image_id) override;
    // The bytes are those whose checksum show() tells; Corrupt when the file ends early.
    Result<void> download(
        const RequestContext& context, const std::string& image_id,
        const std::function<Result<void>(std::span<const std::byte>)>& sink) override;
    Result<ImageMeta> create(const RequestContext& context, const ImageMeta& meta) override;
    Result<void> upload(const RequestContext& context, const std::string& image_id,
                        const ImageMeta& meta, const Source& source) override;
    Result<void> remove(const RequestContext& context, const std::string& image_id) override;
    Result<std::vector<ImageMeta>> list(const RequestContext& context,
                                        const Properties& with) override;

private:
    ImageStore& store_;
};

}  // namespace kumoi::compute
