#include "api/rest/image/image_data.h"

#include <charconv>
#include <vector>

#include "api/rest/auth_middleware.h"
#include "api/rest/fault.h"
#include "api/rest/image/image_access.h"

namespace kumoi::api {
namespace {

using compute::Image;
using compute::ImageStore;

constexpr size_t kPieceBytes = 256u << 10;

std::optional<uint64_t> parse_digits(std::string_view text) {
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    return whole && !text.empty() ? std::optional(value) : std::nullopt;
}

// Everything that can be refused is refused before the first byte is read: a client that waits for
// "100 Continue" then sends nothing.
Result<void> check_upload(const Request& request, const Image& image, const BodyReader& body,
                          uint64_t size_max) {
    if (request.content_type() != "application/octet-stream") {
        return Error::unsupported("The media type '{}' is not accepted here",
                                  request.content_type())
            .with_hint("send application/octet-stream")
            .with_fault("UnsupportedMediaType");
    }
    if (!image.disk_format || !image.container_format) {
        return Error::invalid(
            "Properties disk_format and container_format must be set prior to "
            "saving data.");
    }
    if (body.declared_length().value_or(0) > size_max) {
        return Error::too_large("The image has {} bytes, the limit of this service is {}",
                                *body.declared_length(), size_max);
    }
    return {};
}

Result<Reply> upload(Request& request, BodyReader& body, ImageStore& store) {
    const Image image =
        TRY(image_for(store, auth_of(request), request.parameter("image_id"), "upload_image"));
    TRY(check_upload(request, image, body, store.options().size_max));
    compute::ImageUpload target = TRY(store.begin_upload(image.id));
    std::vector<std::byte> piece(kPieceBytes);
    while (const size_t size = TRY(body.read(piece))) {
        TRY(target.write(std::span(piece).first(size)));
    }
    const auto promised = request.headers.first("X-Openstack-Image-Size");
    if (promised && parse_digits(*promised) != target.size()) {
        return Error::invalid("The image has {} bytes, X-Openstack-Image-Size says {}",
                              target.size(), *promised);
    }
    TRY(target.commit());
    return Reply::no_content();
}

Result<Reply> download(Request& request, BodyReader&, ImageStore& store) {
    const AuthContext& who = auth_of(request);
    const Image image = TRY(visible_image(store, who, request.parameter("image_id")));
    if (image.status == "deactivated" && !who.is_admin) {
        return Error::forbidden(
            "The requested image has been deactivated. Image data download is "
            "forbidden.");
    }
    if (image.status != "active" && image.status != "deactivated") {
        return Reply::no_content();  // Glance: an image without data
    }
    compute::ImageData data = TRY(store.open_data(image.id));
    const auto range = parse_range(request.headers.first_or("Range"), data.size);
    if (!range.ok()) {
        return fault_body(ApiShape::Glance, 416, range.error().message)
            .with_header("Content-Range", fmt::format("bytes */{}", data.size));
    }
    const ByteRange part = range.value().value_or(ByteRange{0, data.size});
    Reply reply = Reply::from_file({std::move(data.fd), part.offset, part.length},
                                   "application/octet-stream");
    reply.headers.add("Accept-Ranges", "bytes");
    if (range.value()) {
        reply.status = 206;
        reply.headers.add("Content-Range", fmt::format("bytes {}-{}/{}", part.offset,
                                                       part.offset + part.length - 1, data.size));
    } else {
        reply.headers.add("Content-MD5", image.checksum);  // Glance: hexadecimal, of the whole
    }
    return reply;
}

}  // namespace

Result<std::optional<ByteRange>> parse_range(std::string_view header, uint64_t size) {
    using Parsed = std::optional<ByteRange>;
    if (!header.starts_with("bytes=") || header.find(',') != std::string_view::npos) {
        return Parsed();
    }
    header.remove_prefix(6);
    const size_t dash = header.find('-');
    if (dash == std::string_view::npos) {
        return Parsed();
    }
    const auto first = parse_digits(header.substr(0, dash));
    const auto last = parse_digits(header.substr(dash + 1));
    const bool has_first = dash > 0;
    const bool has_last = dash + 1 < header.size();
    if ((has_first && !first) || (has_last && !last) || (!has_first && !has_last)) {
        return Parsed();
    }
    if (!has_first) {
        const uint64_t length = std::min(*last, size);
        if (length > 0) {
            return Parsed(ByteRange{size - length, length});
        }
    } else if (*first < size && (!has_last || *last >= *first)) {
        const uint64_t end = has_last ? std::min(*last, size - 1) : size - 1;
        return Parsed(ByteRange{*first, end - *first + 1});
    }
    return Error::invalid("The range '{}' lies outside the {} bytes of the image", header, size);
}

void add_image_data_routes(Router& router, ImageStore& store) {
    const auto handle = [&store](auto function) {
        return answer_stream(ApiShape::Glance,
                             [&store, function](Request& request, BodyReader& body) {
                                 return function(request, body, store);
                             });
    };
    router.put_stream("/v2/images/{image_id}/file", handle(upload));
    router.get_stream("/v2/images/{image_id}/file", handle(download));
}

}  // namespace kumoi::api
