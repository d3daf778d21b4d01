#include "compute/clients/glance_client.h"

#include <optional>

#include "base/digest.h"
#include "base/log.h"
#include "compute/clients/image_json.h"
#include "compute/clients/service_fault.h"

namespace kumoi::clients {
namespace {

constexpr size_t kPageSize = 200;
constexpr int kPagesMax = 500;

std::string image_path(const std::string& image_id, std::string_view below = {}) {
    return fmt::format("/v2/images/{}{}", url_escape(image_id), below);
}

Error glance_refusal(const std::string& what, const HttpReply& reply,
                     std::string otherwise = "ImageBadRequest") {
    std::string fault = std::move(otherwise);
    switch (reply.status) {
        case 401:
        case 403: fault = "ImageNotAuthorized"; break;
        case 404: fault = "ImageNotFound"; break;
        case 413: fault = "ImageQuotaExceeded"; break;
        default: break;
    }
    return refusal("Glance", what, reply, std::move(fault));
}

// Checks the data that passes against what Glance says it is.
class DataCheck {
public:
    explicit DataCheck(const compute::ImageMeta& meta) : id_(meta.id) {
        static const std::pair<const char*, DigestKind> kKinds[] = {{"sha512", DigestKind::Sha512},
                                                                    {"sha256", DigestKind::Sha256},
                                                                    {"sha224", DigestKind::Sha224},
                                                                    {"sha1", DigestKind::Sha1},
                                                                    {"md5", DigestKind::Md5}};
        for (const auto& [name, kind] : kKinds) {
            if (meta.os_hash_algo == name && !meta.os_hash_value.empty()) {
                digest_.emplace(kind);
                expected_ = meta.os_hash_value;
                return;
            }
        }
        if (!meta.checksum.empty()) {
            digest_.emplace(DigestKind::Md5);
            expected_ = meta.checksum;
        }
    }

    void update(std::span<const std::byte> bytes) {
        if (digest_) {
            digest_->update(bytes);
        }
    }
    Result<void> finish() {
        if (!digest_) {
            log_warn("clients", "an image has no hash to check its data with", {{"image", id_}});
            return {};
        }
        const std::string found = digest_->finish_hex();
        if (found != expected_) {
            return Error::corrupt("The data of image {} has the hash {} instead of {}", id_, found,
                                  expected_)
                .with_hint(
                    "the download or Glance's store is damaged; try again, then upload the "
                    "image anew")
                .with_fault("CouldNotFetchImage");
        }
        return {};
    }

private:
    const std::string id_;
    std::optional<Digest> digest_;
    std::string expected_;
};

}  // namespace

Result<HttpReply> GlanceClient::send(const Caller& caller, const ServiceRequest& request) {
    auto reply = service_.send(caller, request);
    if (!reply.ok() && reply.error().fault == kConnectFailure) {
        return std::move(reply).error().with_fault("GlanceConnectionFailed");
    }
    return reply;
}

Result<Json> GlanceClient::image_json(const Caller& caller, const std::string& image_id) {
    const HttpReply reply = TRY(send(caller, {.path = image_path(image_id)}));
    if (!reply.ok()) {
        return glance_refusal("show image " + image_id, reply);
    }
    return TRY_CONTEXT(reply.json(), "Glance's image {}", image_id);
}

Result<compute::ImageMeta> GlanceClient::show(const Context& context, const std::string& image_id) {
    const Json image = TRY(image_json(caller_of(context), image_id));
    return parse_image(image);
}

Result<void> GlanceClient::download(
    const Context& context, const std::string& image_id,
    const std::function<Result<void>(std::span<const std::byte>)>& sink) {
    const ImageMeta meta = TRY(show(context, image_id));
    if (meta.status != "active") {
        return Error::conflict("Image {} is not active: its status is {}", image_id, meta.status)
            .with_fault("ImageNotActive");
    }
    const Caller caller = caller_of(context);
    const auto fetch = [&](const HttpHeaders& headers, const HttpHead& head,
                           const HttpSink& part_sink) {
        ServiceRequest request{.path = image_path(image_id, "/file"),
                               .headers = headers,
                               .sink = part_sink,
                               .head = head,
                               .timeout_ms = 0};  // its stall limit holds
        request.headers.add("Accept", "*/*");
        return send(caller, request);
    };
    const auto refuse = [&](const HttpReply& reply) {
        return glance_refusal("give the data of image " + image_id, reply, "CouldNotFetchImage");
    };
    DataCheck check(meta);
    ImageDownload download(fetch, refuse, meta.size, download_);
    if (!download_.check_hash) {
        return download.run(sink);
    }
    TRY(download.run([&](std::span<const std::byte> bytes) -> Result<void> {
        check.update(bytes);
        return sink(bytes);
    }));
    return check.finish();
}

Result<compute::ImageMeta> GlanceClient::create(const Context& context, const ImageMeta& meta) {
    const HttpReply reply =
        TRY(send(caller_of(context),
                 {.method = "POST", .path = "/v2/images", .body = new_image_body(meta)}));
    if (!reply.ok()) {
        return glance_refusal("make an image", reply);
    }
    const Json image = TRY_CONTEXT(reply.json(), "Glance's new image");
    return parse_image(image);
}

Result<void> GlanceClient::upload(const Context& context, const std::string& image_id,
                                  const ImageMeta& meta, const Source& source) {
    const Caller caller = caller_of(context);
    const Json now = TRY(image_json(caller, image_id));
    if (now.string_or("status") == "active") {
        return {};  // done before; a repeated upload finds what is there
    }
    ImageMeta wanted = meta;
    wanted.properties["owner_id"] = context.project_id;
    wanted.properties["image_location"] = "snapshot";
    wanted.properties["image_state"] = "available";
    const Json patch = image_patch(now, wanted);
    if (patch.size() > 0) {
        const HttpReply reply = TRY(
            send(caller,
                 {.method = "PATCH",
                  .path = image_path(image_id),
                  .body = patch,
                  .headers = {{"Content-Type", "application/openstack-images-v2.1-json-patch"}}}));
        if (!reply.ok()) {
            return glance_refusal("change image " + image_id, reply);
        }
    }
    return put_data(caller, image_id, source);
}

Result<void> GlanceClient::put_data(const Caller& caller, const std::string& image_id,
                                    const Source& source) {
    for (int attempt = 0;; ++attempt) {
        std::optional<Error> source_error;
        const HttpSource guarded = [&](std::span<std::byte> buffer,
                                       uint64_t offset) -> Result<size_t> {
            auto size = source(buffer, offset);
            if (!size.ok()) {
                source_error = size.error();
            }
            return size;
        };
        auto reply = send(caller, {.method = "PUT",
                                   .path = image_path(image_id, "/file"),
                                   .headers = {{"Content-Type", "application/octet-stream"}},
                                   .source = guarded,
                                   .timeout_ms = 0});
        if (source_error) {
            return std::move(*source_error);
        }
        if (reply.ok() && reply.value().ok()) {
            return {};
        }
        Error why = reply.ok() ? glance_refusal("take the data of image " + image_id, *reply,
                                                "CouldNotUploadImage")
                               : std::move(reply).error();
        if (why.code != ErrorCode::Unavailable && why.code != ErrorCode::Timeout) {
            return why;
        }
        // The answer may have been lost after the data had arrived.
        const auto now = image_json(caller, image_id);
        if (now.ok() && now->string_or("status") == "active") {
            return {};
        }
        if (attempt >= upload_retries_ || (now.ok() && now->string_or("status") != "queued")) {
            return std::move(why).with_fault("CouldNotUploadImage");
        }
        log_info("clients", "an image upload begins again",
                 {{"image", image_id}, {"why", why.message}});
    }
}

Result<void> GlanceClient::remove(const Context& context, const std::string& image_id) {
    const HttpReply reply =
        TRY(send(caller_of(context), {.method = "DELETE", .path = image_path(image_id)}));
    if (reply.ok() || reply.status == 404) {
        return {};
    }
    return glance_refusal("delete image " + image_id, reply, "ImageDeleteConflict");
}

Result<std::vector<compute::ImageMeta>> GlanceClient::list(const Context& context,
                                                           const compute::Properties& with) {
    const Caller caller = caller_of(context);
    QueryString query;
    for (const auto& [name, value] : with) {
        query.add(name, value);
    }
    query.add("limit", std::to_string(kPageSize)).add("sort_key", "created_at");
    std::string path = "/v2/images" + query.add("sort_dir", "desc").text();
    std::vector<ImageMeta> images;
    for (int page = 0; page < kPagesMax && !path.empty(); ++page) {
        const HttpReply reply = TRY(send(caller, {.path = path}));
        if (!reply.ok()) {
            return glance_refusal("list images", reply);
        }
        const Json body = TRY_CONTEXT(reply.json(), "Glance's list of images");
        for (const JsonView& image : TRY(JsonView(body).array("images"))) {
            images.push_back(TRY(parse_image(image.json())));
        }
        path = body.string_or("next");
    }
    return images;
}

}  // namespace kumoi::clients
