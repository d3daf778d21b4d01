// Metadata of a server: the whole set and single items.
#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/flavor_view.h"
#include "api/rest/compute/resources.h"
#include "api/rest/schema.h"

namespace kumoi::api {
namespace {

using compute::Instance;
using compute::Properties;

Result<void> check_count(const Call& call, const Properties& metadata) {
    const int64_t limit = call.conductor().quotas().limit(call.who.project_id, "metadata_items");
    if (limit >= 0 && static_cast<int64_t>(metadata.size()) > limit) {
        return Error::forbidden("Maximum number of metadata items exceeds {}", limit)
            .with_fault("MetadataLimitExceeded");
    }
    return {};
}

// Changes the metadata by `change` and answers the new set.
Result<Properties> change_metadata(const Call& call, std::string_view rule,
                                   const std::function<Result<void>(Properties&)>& change) {
    const auto server = TRY(call.server(rule));
    const auto changed = TRY(call.conductor().change_server(
        call.context(), server->instance.uuid, [&](Instance& instance) -> Result<void> {
            TRY(change(instance.metadata));
            return check_count(call, instance.metadata);
        }));
    return changed->instance.metadata;
}

Result<Properties> body_metadata(const Json& body) {
    Fields outer = TRY(Fields::of(body, "body"));
    TRY(outer.require("metadata"));
    auto metadata = TRY(metadata_from(*outer.take("metadata"), "metadata"));
    TRY(outer.finish());
    return metadata;
}

Error no_such_item(const std::string& key) {
    return Error::not_found("Metadata item was not found").with_hint("The key was " + key + ".");
}

Result<Reply> list_metadata(Call& call) {
    const auto server = TRY(call.server("os_compute_api:server-metadata:index"));
    return Reply::json(Json::object({{"metadata", properties_view(server->instance.metadata)}}));
}

Result<Reply> merge_metadata(Call& call) {
    const Json body = TRY(call.body());
    const Properties metadata = TRY(change_metadata(
        call, "os_compute_api:server-metadata:create", [&](Properties& set) -> Result<void> {
            for (auto& [key, value] : TRY(body_metadata(body))) {
                set[key] = value;
            }
            return {};
        }));
    return Reply::json(Json::object({{"metadata", properties_view(metadata)}}));
}

Result<Reply> replace_metadata(Call& call) {
    const Json body = TRY(call.body());
    const Properties metadata = TRY(change_metadata(
        call, "os_compute_api:server-metadata:update_all", [&](Properties& set) -> Result<void> {
            set = TRY(body_metadata(body));
            return {};
        }));
    return Reply::json(Json::object({{"metadata", properties_view(metadata)}}));
}

Result<Reply> show_item(Call& call) {
    const auto server = TRY(call.server("os_compute_api:server-metadata:show"));
    const auto found = server->instance.metadata.find(call.parameter("key"));
    if (found == server->instance.metadata.end()) {
        return no_such_item(call.parameter("key"));
    }
    return Reply::json(Json::object({{"meta", properties_view({*found})}}));
}

Result<Reply> update_item(Call& call) {
    const Json body = TRY(call.body());
    const std::string& key = call.parameter("key");
    Properties item;
    TRY(change_metadata(call, "os_compute_api:server-metadata:update",
                        [&](Properties& set) -> Result<void> {
                            Fields outer = TRY(Fields::of(body, "body"));
                            TRY(outer.require("meta"));
                            item = TRY(metadata_from(*outer.take("meta"), "meta"));
                            TRY(outer.finish());
                            if (item.size() != 1 || !item.contains(key)) {
                                return Error::invalid("Request body and URI mismatch");
                            }
                            set[key] = item[key];
                            return {};
                        }));
    return Reply::json(Json::object({{"meta", properties_view(item)}}));
}

Result<Reply> delete_item(Call& call) {
    const std::string& key = call.parameter("key");
    TRY(change_metadata(call, "os_compute_api:server-metadata:delete",
                        [&](Properties& set) -> Result<void> {
                            return set.erase(key) == 1 ? Result<void>() : no_such_item(key);
                        }));
    return Reply::no_content();
}

}  // namespace

void add_server_metadata_routes(ComputeRoutes& routes) {
    routes.add("GET", "/servers/{server_id}/metadata", list_metadata);
    routes.add("POST", "/servers/{server_id}/metadata", merge_metadata);
    routes.add("PUT", "/servers/{server_id}/metadata", replace_metadata);
    routes.add("GET", "/servers/{server_id}/metadata/{key}", show_item);
    routes.add("PUT", "/servers/{server_id}/metadata/{key}", update_item);
    routes.add("DELETE", "/servers/{server_id}/metadata/{key}", delete_item);
}

}  // namespace kumoi::api
