#include "compute/images/store_image_api.h"

#include <algorithm>

namespace kumoi::compute {
namespace {

constexpr size_t kPieceBytes = 1u << 20;

Result<Image> visible_image(const ImageStore& store, const RequestContext& context,
                            const std::string& image_id) {
    Image image = TRY(store.get(image_id));
    if (!image_visible_to(store, image, context.project_id, context.is_admin)) {
        return Error::not_found("No image found with ID {}", image_id).with_fault("ImageNotFound");
    }
    return image;
}

}  // namespace

Result<ImageMeta> StoreImageApi::show(const RequestContext& context, const std::string& image_id) {
    const Image image = TRY(visible_image(store_, context, image_id));
    ImageMeta meta;
    meta.id = image.id;
    meta.name = image.name.value_or("");
    meta.status = image.status;
    meta.owner = image.owner;
    meta.disk_format = image.disk_format.value_or("");
    meta.container_format = image.container_format.value_or("");
    meta.size = image.size.value_or(0);
    meta.checksum = image.checksum;
    meta.os_hash_algo = image.os_hash_algo;
    meta.os_hash_value = image.os_hash_value;
    meta.min_disk_gb = image.min_disk_gb;
    meta.min_ram_mb = image.min_ram_mb;
    meta.properties = image.properties;
    return meta;
}

Result<void> StoreImageApi::download(
    const RequestContext& context, const std::string& image_id,
    const std::function<Result<void>(std::span<const std::byte>)>& sink) {
    const Image image = TRY(visible_image(store_, context, image_id));
    if (image.status != "active") {
        return Error::conflict("Image {} is not active: its status is {}", image_id, image.status)
            .with_fault("ImageNotActive");
    }
    const ImageData data = TRY(store_.open_data(image_id));
    std::vector<std::byte> piece(kPieceBytes);
    for (uint64_t offset = 0; offset < data.size;) {
        const size_t wanted =
            static_cast<size_t>(std::min<uint64_t>(kPieceBytes, data.size - offset));
        const size_t size = TRY(pread_some(data.fd.get(), std::span(piece).first(wanted), offset));
        if (size == 0) {
            return Error::corrupt("The data of image {} ends at byte {} of {}", image_id, offset,
                                  data.size);
        }
        TRY(sink(std::span(piece).first(size)));
        offset += size;
    }
    return {};
}

}  // namespace kumoi::compute
