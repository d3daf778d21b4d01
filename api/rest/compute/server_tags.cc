// Tags of a server (2.26): the whole set and single ones.
#include <algorithm>

#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"
#include "api/rest/compute/server_create.h"
#include "api/rest/schema.h"

namespace kumoi::api {
namespace {

using compute::Instance;

Json tags_body(const Instance& instance) {
    return Json::object({{"tags", Json::array_of(instance.tags)}});
}

bool has_tag(const Instance& instance, const std::string& tag) {
    return std::find(instance.tags.begin(), instance.tags.end(), tag) != instance.tags.end();
}

Error no_such_tag(const Instance& instance, const std::string& tag) {
    return Error::not_found("Instance {} has no tag '{}'", instance.uuid, tag)
        .with_fault("InstanceTagNotFound");
}

Result<compute::InstancePtr> change_tags(const Call& call, std::string_view rule,
                                         const compute::InstanceStore::Change& change) {
    const auto server = TRY(call.server(rule));
    return call.conductor().change_server(call.context(), server->instance.uuid, change);
}

Result<Reply> list_tags(Call& call) {
    const auto server = TRY(call.server("os_compute_api:os-server-tags:index"));
    return Reply::json(tags_body(server->instance));
}

Result<Reply> replace_tags(Call& call) {
    const Json body = TRY(call.body());
    const auto changed = TRY(change_tags(call, "os_compute_api:os-server-tags:update_all",
                                         [&](Instance& instance) -> Result<void> {
                                             Fields outer = TRY(Fields::of(body, "body"));
                                             TRY(outer.require("tags"));
                                             instance.tags = TRY(parse_tags(*outer.take("tags")));
                                             return outer.finish();
                                         }));
    return Reply::json(tags_body(changed->instance));
}

Result<Reply> delete_tags(Call& call) {
    TRY(change_tags(call, "os_compute_api:os-server-tags:delete_all",
                    [](Instance& instance) -> Result<void> {
                        instance.tags.clear();
                        return {};
                    }));
    return Reply::no_content();
}

Result<Reply> check_tag(Call& call) {
    const auto server = TRY(call.server("os_compute_api:os-server-tags:show"));
    if (!has_tag(server->instance, call.parameter("tag"))) {
        return no_such_tag(server->instance, call.parameter("tag"));
    }
    return Reply::no_content();
}

Result<Reply> add_tag(Call& call) {
    const std::string& tag = call.parameter("tag");
    bool added = false;
    const auto changed = TRY(change_tags(
        call, "os_compute_api:os-server-tags:update", [&](Instance& instance) -> Result<void> {
            added = !has_tag(instance, tag);
            if (added) {
                std::vector<std::string> tags = instance.tags;
                tags.push_back(tag);
                instance.tags = TRY(parse_tags(Json::array_of(tags)));
            }
            return {};
        }));
    if (!added) {
        return Reply::no_content();
    }
    return Reply::with_status(201).with_header(
        "Location", fmt::format("{}/servers/{}/tags/{}", call.versioned_url(),
                                changed->instance.uuid, percent_encode(tag)));
}

Result<Reply> delete_tag(Call& call) {
    const std::string& tag = call.parameter("tag");
    TRY(change_tags(call, "os_compute_api:os-server-tags:delete",
                    [&](Instance& instance) -> Result<void> {
                        return std::erase(instance.tags, tag) == 1 ? Result<void>()
                                                                   : no_such_tag(instance, tag);
                    }));
    return Reply::no_content();
}

}  // namespace

void add_server_tag_routes(ComputeRoutes& routes) {
    constexpr VersionRange range{26, 96};
    routes.add("GET", "/servers/{server_id}/tags", list_tags, range);
    routes.add("PUT", "/servers/{server_id}/tags", replace_tags, range);
    routes.add("DELETE", "/servers/{server_id}/tags", delete_tags, range);
    routes.add("GET", "/servers/{server_id}/tags/{tag}", check_tag, range);
    routes.add("PUT", "/servers/{server_id}/tags/{tag}", add_tag, range);
    routes.add("DELETE", "/servers/{server_id}/tags/{tag}", delete_tag, range);
}

}  // namespace kumoi::api
