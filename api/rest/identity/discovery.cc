// Version documents: where every client starts.
#include "api/rest/identity/identity_routes.h"

namespace kumoi::api::identity {
namespace {

// v3.14 is what Keystone has said since 2020; clients look at the 3 only.
Json version_view(const Request& request) {
    const std::string href = request.base_url() + "/v3/";
    return Json::object(
        {{"id", "v3.14"},
         {"status", "stable"},
         {"updated", "2020-04-07T00:00:00Z"},
         {"links", Json(Json::Array{Json::object({{"rel", "self"}, {"href", href}})})},
         {"media-types", Json(Json::Array{Json::object(
                             {{"base", "application/json"},
                              {"type", "application/vnd.openstack.identity-v3+json"}})})}});
}

}  // namespace

void add_discovery_routes(Router& router) {
    router.get("/", [](Request& request) {
        Json values = Json(Json::Array{version_view(request)});
        return Reply::json(
                   Json::object({{"versions", Json::object({{"values", std::move(values)}})}}), 300)
            .with_header("Location", request.base_url() + "/v3/");
    });
    router.get("/v3", [](Request& request) {
        return Reply::json(Json::object({{"version", version_view(request)}}));
    });
}

}  // namespace kumoi::api::identity
