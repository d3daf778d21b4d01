// The version documents: GET / (all versions) and GET /v2.1/ (this one). They need no token.
#include "api/rest/compute/resources.h"
#include "api/rest/microversion.h"
#include "base/json.h"

namespace kumoi::api {
namespace {

constexpr char kUpdated[] = "2013-07-23T11:33:21Z";  // of the v2.1 API itself, as everywhere

Json version_entry(const Request& request) {
    return Json::object(
        {{"id", "v2.1"},
         {"status", "CURRENT"},
         {"version", kMicroversionMax.text()},
         {"min_version", kMicroversionMin.text()},
         {"updated", kUpdated},
         {"links", Json(Json::Array{Json::object(
                       {{"rel", "self"}, {"href", request.base_url() + "/v2.1/"}})})}});
}

Reply show_versions(Request& request) {
    return Reply::json(Json::object({{"versions", Json(Json::Array{version_entry(request)})}}));
}

Reply show_version(Request& request) {
    Json version = version_entry(request);
    version["links"].push_back(Json::object(
        {{"rel", "describedby"}, {"type", "text/html"}, {"href", "http://docs.openstack.org/"}}));
    version.set("media-types",
                Json(Json::Array{Json::object(
                    {{"base", "application/json"},
                     {"type", "application/vnd.openstack.compute+json;version=2.1"}})}));
    return Reply::json(Json::object({{"version", std::move(version)}}));
}

}  // namespace

void add_version_routes(Router& router) {
    router.get("/", show_versions);
    router.get("/v2.1", show_version);
}

}  // namespace kumoi::api
