// createImage and createBackup: a server becomes an image.
#include "api/rest/compute/server_action.h"
#include "api/rest/schema.h"

namespace kumoi::api {
namespace {

constexpr int64_t kRotationMax = 1'000'000;

Result<compute::Properties> image_metadata(const ActionCall& action, Fields& fields) {
    compute::Properties metadata =
        TRY(fields.optional_metadata("metadata")).value_or(compute::Properties());
    const int64_t items_max =
        action.conductor().quotas().limit(action.call.who.project_id, "metadata_items");
    if (items_max >= 0 && static_cast<int64_t>(metadata.size()) > items_max) {
        return Error::forbidden("Image property limit exceeded")
            .with_hint(fmt::format("{} were given, {} are allowed.", metadata.size(), items_max))
            .with_fault("MetadataLimitExceeded");
    }
    return metadata;
}

// The image's id in the body from 2.45 on, before only in the address of the image.
Reply image_reply(const ActionCall& action, const std::string& image_id) {
    if (action.call.at_least(45)) {
        return Reply::json(Json::object({{"image_id", image_id}}), 202);
    }
    return Reply::accepted().with_header(
        "Location", fmt::format("{}/v2/images/{}", action.call.services.image_uri, image_id));
}

}  // namespace

Result<Reply> create_image(const ActionCall& action) {
    Fields fields = TRY(Fields::of(action.argument, "createImage"));
    const std::string name = TRY(fields.name("name"));
    const compute::Properties metadata = TRY(image_metadata(action, fields));
    TRY(fields.finish());
    return image_reply(action, TRY(action.conductor().create_image(action.context(), action.uuid(),
                                                                   name, metadata)));
}

Result<Reply> create_backup(const ActionCall& action) {
    Fields fields = TRY(Fields::of(action.argument, "createBackup"));
    const std::string name = TRY(fields.name("name"));
    const std::string backup_type = TRY(fields.text("backup_type", {1, 255}));
    const int64_t rotation = TRY(fields.integer("rotation", {0, kRotationMax}));
    const compute::Properties metadata = TRY(image_metadata(action, fields));
    TRY(fields.finish());
    const std::string image_id = TRY(action.conductor().create_backup(
        action.context(), action.uuid(), name, metadata, backup_type, rotation));
    return rotation > 0 ? image_reply(action, image_id) : Reply::accepted();
}

}  // namespace kumoi::api
