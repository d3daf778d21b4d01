// GlanceClient: compute::ImageApi on Glance v2. Images are the user's: requests carry the user's
// token, with a service token that keeps a long transfer alive. Data is checked against the image's
// os_hash (or MD5) while it passes. Thread safe; blocks as long as the data takes.
//
// Errors carry Nova's exception in `fault`: ImageNotFound, ImageNotAuthorized, ImageNotActive,
// ImageBadRequest, ImageQuotaExceeded, ImageDeleteConflict, CouldNotFetchImage,
// CouldNotUploadImage, GlanceConnectionFailed.
#pragma once

#include <string>
#include <vector>

#include "compute/clients/image_download.h"
#include "compute/clients/service_client.h"
#include "compute/manager/image_api.h"

namespace kumoi::clients {

class GlanceClient final : public compute::ImageApi {
public:
    using Context = compute::RequestContext;
    using ImageMeta = compute::ImageMeta;

    // service must outlive this.
    GlanceClient(ServiceClient& service, DownloadOptions download, int upload_retries = 3)
        : service_(service), download_(download), upload_retries_(upload_retries) {}

    Result<ImageMeta> show(const Context& context, const std::string& image_id) override;
    Result<void> download(
        const Context& context, const std::string& image_id,
        const std::function<Result<void>(std::span<const std::byte>)>& sink) override;
    Result<ImageMeta> create(const Context& context, const ImageMeta& meta) override;
    // The properties of a server's snapshot (owner_id, image_location, image_state) are added.
    Result<void> upload(const Context& context, const std::string& image_id, const ImageMeta& meta,
                        const Source& source) override;
    Result<void> remove(const Context& context, const std::string& image_id) override;
    Result<std::vector<ImageMeta>> list(const Context& context,
                                        const compute::Properties& with) override;

private:
    Result<HttpReply> send(const Caller& caller, const ServiceRequest& request);
    Result<Json> image_json(const Caller& caller, const std::string& image_id);
    Result<void> put_data(const Caller& caller, const std::string& image_id, const Source& source);

    ServiceClient& service_;
    const DownloadOptions download_;
    const int upload_retries_;
};

}  // namespace kumoi::clients
