// /v2.0/<collection>/<id>/tags
#include <algorithm>

#include "api/rest/network/attributes.h"
#include "api/rest/network/network_routes.h"

namespace kumoi::api {
namespace {

using compute::NetworkService;
using compute::RequestContext;

constexpr size_t kTagsMax = 50;
constexpr size_t kTagSizeMax = 255;  // Neutron's longest tag

struct TagTarget {
    RequestContext context;
    std::string table;
    std::string id;
    std::vector<std::string> tags;
};

template <class Record>
std::vector<std::string> tags_of(const std::vector<Record>& records) {
    return records.empty() ? std::vector<std::string>() : records[0].tags;
}

// The record whose tags are meant; what the caller may not see is not found.
Result<TagTarget> tag_target(const RequestContext& context, const Request& request,
                             NetworkService& service, const std::string& table) {
    TagTarget target{context, table, request.parameter("id"), {}};
    const compute::RecordFilter filter{.ids = {target.id}};
    size_t found = 0;
    const auto take = [&](const auto& records) {
        found = records.size();
        target.tags = tags_of(records);
    };
    if (table == "networks") {
        take(TRY(service.list_networks(context, filter)));
    } else if (table == "subnets") {
        take(TRY(service.list_subnets(context, filter)));
    } else if (table == "ports") {
        take(TRY(service.list_ports(context, filter)));
    } else {
        take(TRY(service.list_security_groups(context, filter)));
    }
    if (found == 0) {
        return Error::not_found("Resource {} {} could not be found.", table, target.id)
            .with_fault("TagResourceNotFound");
    }
    return target;
}

Result<Reply> store_tags(NetworkService& service, const TagTarget& target,
                         std::vector<std::string> tags, int status) {
    std::sort(tags.begin(), tags.end());
    tags.erase(std::unique(tags.begin(), tags.end()), tags.end());
    for (const std::string& tag : tags) {
        if (tag.empty() || tag.size() > kTagSizeMax || tag.find(',') != std::string::npos) {
            return compute::network_errors::invalid_input(fmt::format(
                "tag '{}' must have 1 to {} characters and no comma", tag, kTagSizeMax));
        }
    }
    if (tags.size() > kTagsMax) {
        return compute::network_errors::invalid_input(
            fmt::format("{} tags, at most {} are kept", tags.size(), kTagsMax));
    }
    TRY(service.set_tags(target.context, target.table, target.id, tags));
    return status == 200 ? Reply::json(Json::object({{"tags", Json::array_of(tags)}}))
                         : Reply::with_status(status);
}

Result<Reply> change_tags(Request& request, NetworkService& service, const std::string& table) {
    TagTarget target = TRY(tag_target(TRY(writer_of(request)), request, service, table));
    const bool single = request.route.ends_with("/{tag}");
    if (!single && request.method == "DELETE") {
        return store_tags(service, target, {}, 204);
    }
    if (!single) {
        const Json body = TRY(request.json());
        Attributes attributes(body, false);
        const auto tags = TRY(attributes.texts("tags"));
        TRY(attributes.finish());
        return store_tags(service, target, tags.value_or(std::vector<std::string>()), 200);
    }
    const std::string& tag = request.parameter("tag");
    if (request.method == "PUT") {
        target.tags.push_back(tag);
        return store_tags(service, target, target.tags, 201);
    }
    if (std::erase(target.tags, tag) == 0) {
        return Error::not_found("Tag {} could not be found.", tag).with_fault("TagNotFound");
    }
    return store_tags(service, target, target.tags, 204);
}

}  // namespace

void add_network_tags(Router& router, NetworkService& service) {
    for (const auto& [path, table] :
         {std::pair("networks", "networks"), std::pair("subnets", "subnets"),
          std::pair("ports", "ports"), std::pair("security-groups", "security_groups")}) {
        const std::string base = std::string("/v2.0/") + path + "/{id}/tags";
        const std::string name = table;
        router.get(base, neutron([&service, name](Request& request) -> Result<Reply> {
                       const TagTarget target =
                           TRY(tag_target(TRY(reader_of(request)), request, service, name));
                       return Reply::json(Json::object({{"tags", Json::array_of(target.tags)}}));
                   }));
        const Handler change = neutron(
            [&service, name](Request& request) { return change_tags(request, service, name); });
        router.put(base, change);
        router.del(base, change);
        router.put(base + "/{tag}", change);
        router.del(base + "/{tag}", change);
    }
}

}  // namespace kumoi::api
