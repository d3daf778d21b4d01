// Versions, resources and extensions: what a client may expect of us.
#include <array>

#include "api/rest/network/network_routes.h"

namespace kumoi::api {
namespace {

struct Extension {
    const char* alias;
    const char* name;
    const char* description;
    const char* updated;
};

// Only what works here; the dates are the extensions' own (neutron-lib api definitions).
constexpr std::array kExtensions = {
    Extension{"agent", "agent", "Hosts that carry networks", "2013-02-03T10:00:00-00:00"},
    Extension{"allowed-address-pairs", "Allowed Address Pairs",
              "Addresses a port may use besides its own", "2013-07-23T10:00:00-00:00"},
    Extension{"availability_zone", "Availability Zone", "Availability zones of networks",
              "2015-01-01T10:00:00-00:00"},
    Extension{"binding", "Port Binding", "Which host carries a port", "2014-02-03T10:00:00-00:00"},
    Extension{"external-net", "Neutron external network", "The attribute router:external",
              "2013-01-14T10:00:00-00:00"},
    Extension{"filter-validation", "Filter parameters validation", "An unknown filter is an error",
              "2018-03-21T10:00:00-00:00"},
    Extension{"ip-substring-filtering", "IP address substring filtering",
              "Ports by a part of an address", "2017-11-28T09:00:00-00:00"},
    Extension{"net-mtu", "Network MTU", "The MTU of a network", "2015-03-25T10:00:00-00:00"},
    Extension{"net-mtu-writable", "Network MTU (writable)", "The MTU may be set",
              "2017-07-12T00:00:00-00:00"},
    Extension{"pagination", "Pagination support", "Lists come in pages",
              "2016-06-12T00:00:00-00:00"},
    Extension{"port-security", "Port Security", "Anti-spoofing may be turned off for a port",
              "2012-07-23T10:00:00-00:00"},
    Extension{"project-id", "project_id field enabled", "project_id beside tenant_id",
              "2016-09-09T09:09:09-09:09"},
    Extension{"provider", "Provider Network", "How a network is realised (for admins)",
              "2012-09-07T10:00:00-00:00"},
    Extension{"quotas", "Quota management support", "Limits of a project",
              "2012-07-29T10:00:00-00:00"},
    Extension{"quota_details", "Quota details management support", "Use beside limits",
              "2017-02-10T10:00:00-00:00"},
    Extension{"security-group", "security-group", "Security groups and rules",
              "2012-10-05T10:00:00-00:00"},
    Extension{"sorting", "Sorting support", "Lists may be sorted", "2016-06-12T00:00:00-00:00"},
    Extension{"standard-attr-description", "standard-attr-description",
              "Every record has a description", "2016-02-10T10:00:00-00:00"},
    Extension{"standard-attr-revisions", "Resource revision numbers",
              "Every record counts its changes", "2016-04-11T10:00:00-00:00"},
    Extension{"standard-attr-tag", "Tag support for resources with standard attribute",
              "Every record may have tags", "2017-01-01T00:00:00-00:00"},
    Extension{"standard-attr-timestamp", "Resource timestamps", "created_at and updated_at",
              "2016-09-12T10:00:00-00:00"},
};

Json extension_view(const Extension& extension) {
    return Json::object({{"name", extension.name},
                         {"alias", extension.alias},
                         {"description", extension.description},
                         {"updated", extension.updated},
                         {"links", Json::array()}});
}

Json self_link(const std::string& href) {
    return Json(Json::Array{Json::object({{"rel", "self"}, {"href", href}})});
}

Reply versions(Request& request) {
    Json version = Json::object({{"id", "v2.0"},
                                 {"status", "CURRENT"},
                                 {"links", self_link(request.base_url() + "/v2.0/")}});
    return Reply::json(Json::object({{"versions", Json(Json::Array{std::move(version)})}}));
}

Reply resources(Request& request) {
    Json::Array items;
    for (const auto& [name, collection] :
         {std::pair("network", "networks"), std::pair("subnet", "subnets"),
          std::pair("port", "ports"), std::pair("security_group", "security-groups"),
          std::pair("security_group_rule", "security-group-rules"), std::pair("quota", "quotas"),
          std::pair("agent", "agents"), std::pair("extension", "extensions"),
          std::pair("availability_zone", "availability_zones")}) {
        items.push_back(
            Json::object({{"name", name},
                          {"collection", collection},
                          {"links", self_link(request.base_url() + "/v2.0/" + collection)}}));
    }
    return Reply::json(Json::object({{"resources", Json(std::move(items))}}));
}

Result<Reply> list_extensions(Request&) {
    Json::Array items;
    for (const Extension& extension : kExtensions) {
        items.push_back(extension_view(extension));
    }
    return Reply::json(Json::object({{"extensions", Json(std::move(items))}}));
}

Result<Reply> show_extension(Request& request) {
    const std::string& alias = request.parameter("alias");
    for (const Extension& extension : kExtensions) {
        if (alias == extension.alias) {
            return Reply::json(Json::object({{"extension", extension_view(extension)}}));
        }
    }
    return Error::not_found("Extension with alias {} does not exist", alias)
        .with_fault("HTTPNotFound");
}

}  // namespace

void add_network_discovery(Router& router) {
    router.get("/", versions);
    router.get("/v2.0", resources);
    router.get("/v2.0/extensions", neutron(list_extensions));
    router.get("/v2.0/extensions/{alias}", neutron(show_extension));
}

}  // namespace kumoi::api
