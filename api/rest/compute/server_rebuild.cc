// rebuild and rescue: a server gets another image to boot from, for good or for a while.
#include "api/rest/compute/server_action.h"
#include "api/rest/compute/server_create.h"
#include "api/rest/compute/server_view.h"
#include "api/rest/schema.h"
#include "base/uuid.h"

namespace kumoi::api {
namespace {

using compute::RebuildServer;

Result<std::string> image_ref(Fields& fields, std::string_view key) {
    const std::string text = TRY(fields.text(key));
    const auto uuid = Uuid::parse(text);
    if (!uuid) {
        return invalid_input(key, Json(text), fmt::format("'{}' is not a 'uuid'", text));
    }
    return uuid->text();
}

Result<std::string> password(const ActionCall& action, Fields& fields) {
    const auto given = TRY(fields.optional_text("adminPass", {0, 255}));
    return given && !given->empty() ? *given : generated_password(action.call.services.random);
}

// Members that null takes away.
Result<void> parse_nullable(const Call& call, Fields& fields, RebuildServer& request) {
    if (call.at_least(19) && fields.has("description")) {
        request.description = TRY(fields.optional_text("description", {0, 255}));
    }
    if (call.at_least(54) && fields.has("key_name")) {
        request.key_name = TRY(fields.optional_text("key_name", {1, 255}));
    }
    if (call.at_least(57) && fields.has("user_data")) {
        request.user_data = TRY(parse_user_data(fields));
    }
    return {};
}

Result<RebuildServer> parse_rebuild(const ActionCall& action) {
    const Call& call = action.call;
    RebuildServer request;
    request.context = action.context();
    request.uuid = action.uuid();
    Fields fields = TRY(Fields::of(action.argument, "rebuild"));
    request.image_id = TRY(image_ref(fields, "imageRef"));
    request.admin_password = TRY(password(action, fields));
    request.preserve_ephemeral = TRY(fields.optional_boolean("preserve_ephemeral")).value_or(false);
    request.name = TRY(fields.optional_name("name"));
    request.metadata = TRY(fields.optional_metadata("metadata"));
    request.auto_disk_config = TRY(parse_disk_config(fields));
    request.access_ip_v4 = TRY(parse_access_ip(fields, "accessIPv4", 4));
    request.access_ip_v6 = TRY(parse_access_ip(fields, "accessIPv6", 6));
    request.hostname = TRY(parse_hostname(fields, call.version));
    request.injected_files = TRY(parse_personality(call, fields));
    TRY(parse_nullable(call, fields, request));
    if (call.at_least(63)) {
        const Json* certificates = fields.take("trusted_image_certificates");
        if (certificates != nullptr && !certificates->is_null()) {
            return Error::invalid("Image signature certificates are not supported here.")
                .with_hint("Leave trusted_image_certificates out.");
        }
    }
    TRY(fields.finish());
    return request;
}

}  // namespace

Result<Reply> rebuild(const ActionCall& action) {
    const RebuildServer request = TRY(parse_rebuild(action));
    const Call& call = action.call;
    const int64_t items_max =
        call.conductor().quotas().limit(call.who.project_id, "metadata_items");
    if (request.metadata && items_max >= 0 &&
        static_cast<int64_t>(request.metadata->size()) > items_max) {
        return Error::forbidden("Maximum number of metadata items exceeds {}", items_max)
            .with_fault("MetadataLimitExceeded");
    }
    const auto accepted = TRY(action.conductor().rebuild_server(request));
    const compute::Instance& instance = accepted->instance;
    const auto text_or_null = [](const std::string& text) {
        return text.empty() ? Json() : Json(text);
    };
    Json view = server_view(call, instance, ServerForm::Update);
    if (call.at_least(54)) {
        view.set("key_name", text_or_null(instance.key_name));
    }
    if (call.at_least(57)) {
        view.set("user_data", text_or_null(instance.user_data));
    }
    view.set("adminPass", request.admin_password);
    return Reply::json(Json::object({{"server", std::move(view)}}), 202)
        .with_header("Location", fmt::format("{}/servers/{}", call.versioned_url(), instance.uuid));
}

Result<Reply> rescue(const ActionCall& action) {
    std::string image_id;
    std::string admin_password;
    if (action.argument.is_null()) {
        admin_password = generated_password(action.call.services.random);
    } else {
        Fields fields = TRY(Fields::of(action.argument, "rescue"));
        admin_password = TRY(password(action, fields));
        if (fields.json().contains("rescue_image_ref")) {
            image_id = TRY(image_ref(fields, "rescue_image_ref"));
        }
        TRY(fields.finish());
    }
    TRY(action.conductor().rescue_server(action.context(), action.uuid(), image_id,
                                         admin_password));
    return Reply::json(Json::object({{"adminPass", admin_password}}));
}

}  // namespace kumoi::api
