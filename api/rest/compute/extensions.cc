// GET /extensions: the list old clients ask for before they use a resource. It names the resources
// this service has; new clients go by microversions.
#include <algorithm>
#include <array>

#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"

namespace kumoi::api {
namespace {

struct Extension {
    std::string_view alias;
    std::string_view name;
};
constexpr std::array<Extension, 17> kExtensions = {{
    {"os-aggregates", "Aggregates"},
    {"os-attach-interfaces", "AttachInterfaces"},
    {"os-availability-zone", "AvailabilityZone"},
    {"os-console-output", "ConsoleOutput"},
    {"os-flavor-access", "FlavorAccess"},
    {"os-flavor-extra-specs", "FlavorExtraSpecs"},
    {"os-flavor-manage", "FlavorManage"},
    {"os-hypervisors", "Hypervisors"},
    {"os-instance-actions", "InstanceActions"},
    {"os-keypairs", "Keypairs"},
    {"os-lock-server", "LockServer"},
    {"os-pause-server", "PauseServer"},
    {"os-quota-class-sets", "QuotaClasses"},
    {"os-quota-sets", "Quotas"},
    {"os-server-diagnostics", "ServerDiagnostics"},
    {"os-server-groups", "ServerGroups"},
    {"os-services", "Services"},
}};

Json extension_view(const Extension& extension) {
    return Json::object({{"alias", extension.alias},
                         {"name", extension.name},
                         {"description", ""},
                         {"links", Json::array()},
                         {"namespace", ""},
                         {"updated", "2014-12-03T00:00:00Z"}});
}

Result<Reply> list_extensions(Call& call) {
    TRY(call.authorize("os_compute_api:extensions"));
    Json extensions = Json::array();
    for (const Extension& extension : kExtensions) {
        extensions.push_back(extension_view(extension));
    }
    return Reply::json(Json::object({{"extensions", std::move(extensions)}}));
}

Result<Reply> show_extension(Call& call) {
    TRY(call.authorize("os_compute_api:extensions"));
    const std::string& alias = call.parameter("alias");
    const auto* const found =
        std::find_if(kExtensions.begin(), kExtensions.end(),
                     [&](const Extension& extension) { return extension.alias == alias; });
    if (found == kExtensions.end()) {
        return Error::not_found("There is no extension {}.", alias);
    }
    return Reply::json(Json::object({{"extension", extension_view(*found)}}));
}

}  // namespace

void add_extension_routes(ComputeRoutes& routes) {
    routes.add("GET", "/extensions", list_extensions);
    routes.add("GET", "/extensions/{alias}", show_extension);
}

}  // namespace kumoi::api
