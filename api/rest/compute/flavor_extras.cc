// What hangs on a flavor: extra specs and the projects that may use a private one.
#include <algorithm>

#include "api/rest/compute/flavor_view.h"
#include "api/rest/compute/resources.h"
#include "api/rest/schema.h"

namespace kumoi::api {
namespace {

using compute::Flavor;

Result<compute::Properties> parse_specs(const Json& value) {
    // Numbers are welcome and kept as text, as Nova does.
    compute::Properties specs;
    Fields fields = TRY(Fields::of(value, "extra_specs"));
    for (const auto& [key, item] : value.as_object()) {
        TRY(check_metadata_key(key, "extra_specs", value));
        if (item.is_string()) {
            specs[key] = TRY(fields.text(key, {0, 255}));
        } else if (item.is_number()) {
            specs[key] = item.dump();
        } else {
            return invalid_input(key, item, "It is not of type 'string', 'number'");
        }
    }
    return specs;
}

Error no_such_spec(const std::string& flavor_id, const std::string& key) {
    return Error::not_found("Flavor {} has no extra specs with key {}.", flavor_id, key)
        .with_fault("FlavorExtraSpecsNotFound");
}

Result<Reply> list_specs(Call& call) {
    TRY(call.authorize("os_compute_api:os-flavor-extra-specs:index"));
    const Flavor flavor = TRY(find_flavor(call));
    return Reply::json(Json::object({{"extra_specs", properties_view(flavor.extra_specs)}}));
}

Result<Reply> show_spec(Call& call) {
    TRY(call.authorize("os_compute_api:os-flavor-extra-specs:show"));
    const Flavor flavor = TRY(find_flavor(call));
    const std::string& key = call.parameter("key");
    const auto found = flavor.extra_specs.find(key);
    if (found == flavor.extra_specs.end()) {
        return no_such_spec(flavor.flavor_id, key);
    }
    return Reply::json(properties_view({*found}));
}

Result<Reply> create_specs(Call& call) {
    TRY(call.authorize("os_compute_api:os-flavor-extra-specs:create"));
    const Json body = TRY(call.body());
    Fields outer = TRY(Fields::of(body, "body"));
    TRY(outer.require("extra_specs"));
    const auto specs = TRY(parse_specs(*outer.take("extra_specs")));
    TRY(outer.finish());
    TRY(call.conductor().flavors().set_extra_specs(call.parameter("flavor_id"), specs));
    return Reply::json(Json::object({{"extra_specs", properties_view(specs)}}));
}

Result<Reply> update_spec(Call& call) {
    TRY(call.authorize("os_compute_api:os-flavor-extra-specs:update"));
    const Json body = TRY(call.body());
    const auto specs = TRY(parse_specs(body));
    const std::string& key = call.parameter("key");
    if (specs.size() != 1 || !specs.contains(key)) {
        return Error::invalid("Request body and URI mismatch: {}", key);
    }
    TRY(call.conductor().flavors().set_extra_specs(call.parameter("flavor_id"), specs));
    return Reply::json(properties_view(specs));
}

Result<Reply> delete_spec(Call& call) {
    TRY(call.authorize("os_compute_api:os-flavor-extra-specs:delete"));
    TRY(call.conductor().flavors().remove_extra_spec(call.parameter("flavor_id"),
                                                     call.parameter("key")));
    return Reply::ok();
}

Json access_view(const std::string& flavor_id, const std::set<std::string>& projects) {
    Json list = Json::array();
    for (const std::string& project : projects) {
        list.push_back(Json::object({{"flavor_id", flavor_id}, {"tenant_id", project}}));
    }
    return Json::object({{"flavor_access", std::move(list)}});
}

Result<Reply> list_access(Call& call) {
    TRY(call.authorize("os_compute_api:os-flavor-access"));
    const Flavor flavor = TRY(find_flavor(call));
    if (flavor.is_public) {
        return Error::not_found("Access list not available for public flavors.");
    }
    return Reply::json(
        access_view(flavor.flavor_id, call.conductor().flavors().access(flavor.flavor_id)));
}

Result<Reply> flavor_action(Call& call) {
    const Json body = TRY(call.body());
    const bool add = body.contains("addTenantAccess");
    const char* name = add ? "addTenantAccess" : "removeTenantAccess";
    if (!body.contains(name)) {
        return Error::invalid("There is no such action: {}",
                              body.size() == 0 ? "" : body.as_object().front().first);
    }
    TRY(call.authorize(add ? "os_compute_api:os-flavor-access:add_tenant_access"
                           : "os_compute_api:os-flavor-access:remove_tenant_access"));
    Fields fields = TRY(Fields::root(body, name));
    const std::string project = TRY(fields.text("tenant", {1, 255}));
    TRY(fields.finish());
    const Flavor flavor = TRY(find_flavor(call));
    auto& flavors = call.conductor().flavors();
    if (add && flavor.is_public) {
        return Error::conflict("Can not add access to a public flavor.");
    }
    TRY(add ? flavors.add_access(flavor.flavor_id, project)
            : flavors.remove_access(flavor.flavor_id, project));
    return Reply::json(access_view(flavor.flavor_id, flavors.access(flavor.flavor_id)));
}

}  // namespace

void add_flavor_extra_routes(ComputeRoutes& routes) {
    routes.add("POST", "/flavors/{flavor_id}/action", flavor_action);
    routes.add("GET", "/flavors/{flavor_id}/os-extra_specs", list_specs);
    routes.add("POST", "/flavors/{flavor_id}/os-extra_specs", create_specs);
    routes.add("GET", "/flavors/{flavor_id}/os-extra_specs/{key}", show_spec);
    routes.add("PUT", "/flavors/{flavor_id}/os-extra_specs/{key}", update_spec);
    routes.add("DELETE", "/flavors/{flavor_id}/os-extra_specs/{key}", delete_spec);
    routes.add("GET", "/flavors/{flavor_id}/os-flavor-access", list_access);
}

}  // namespace kumoi::api
