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

ImageMeta meta_of(const Image& image) {
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

bool has_all(const Properties& properties, const Properties& wanted) {
    return std::all_of(wanted.begin(), wanted.end(), [&](const auto& entry) {
        const auto found = properties.find(entry.first);
        return found != properties.end() && found->second == entry.second;
    });
}

}  // namespace

Result<ImageMeta> StoreImageApi::show(const RequestContext& context, const std::string& image_id) {
    return meta_of(TRY(visible_image(store_, context, image_id)));
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

Result<ImageMeta> StoreImageApi::create(const RequestContext& context, const ImageMeta& meta) {
    Image image;
    image.name = meta.name;
    image.owner = context.project_id;
    image.visibility = "private";
    image.disk_format = meta.disk_format;
    image.container_format = meta.container_format;
    image.min_disk_gb = meta.min_disk_gb;
    image.min_ram_mb = meta.min_ram_mb;
    image.properties = meta.properties;
    return meta_of(TRY(store_.add(std::move(image))));
}

Result<void> StoreImageApi::upload(const RequestContext& context, const std::string& image_id,
                                   const ImageMeta& meta, const Source& source) {
    if (TRY(visible_image(store_, context, image_id)).status == "active") {
        return {};  // done before; a repeated upload finds what is there
    }
    TRY(store_.change(image_id, [&](Image& image) -> Result<void> {
        image.disk_format = meta.disk_format;
        image.container_format = meta.container_format;
        image.min_disk_gb = meta.min_disk_gb;
        image.min_ram_mb = meta.min_ram_mb;
        for (const auto& [key, value] : meta.properties) {
            image.properties[key] = value;
        }
        return {};
    }));
    ImageUpload upload = TRY(store_.begin_upload(image_id));
    std::vector<std::byte> piece(kPieceBytes);
    while (const size_t size = TRY(source(piece, upload.size()))) {
        TRY(upload.write(std::span(piece).first(size)));
    }
    TRY(upload.commit());
    return {};
}

Result<void> StoreImageApi::remove(const RequestContext& context, const std::string& image_id) {
    const auto image = visible_image(store_, context, image_id);
    if (!image.ok()) {
        return image.error().code == ErrorCode::NotFound ? Result<void>()
                                                         : Result<void>(image.error());
    }
    if (image->owner != context.project_id && !context.is_admin) {
        return Error::forbidden("You are not permitted to delete image {}", image_id)
            .with_fault("ImageNotAuthorized");
    }
    const auto removed = store_.remove(image_id);
    const bool gone = !removed.ok() && removed.error().code == ErrorCode::NotFound;
    return gone ? Result<void>() : removed;
}

Result<std::vector<ImageMeta>> StoreImageApi::list(const RequestContext& context,
                                                   const Properties& with) {
    std::vector<Image> found = store_.list();
    std::erase_if(found, [&](const Image& image) {
        return image.owner != context.project_id || !has_all(image.properties, with);
    });
    std::stable_sort(found.begin(), found.end(), [](const Image& left, const Image& right) {
        return left.created_ns > right.created_ns;
    });
    std::vector<ImageMeta> result;
    for (const Image& image : found) {
        result.push_back(meta_of(image));
    }
    return result;
}

}  // namespace kumoi::compute
