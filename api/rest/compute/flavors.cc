// Flavors: list, show, create, update of the description, delete; their action addTenantAccess and
// the extra specs are in flavor_extras.cc.
#include <algorithm>

#include "api/rest/compute/flavor_view.h"
#include "api/rest/compute/resources.h"
#include "api/rest/schema.h"
#include "base/uuid.h"

namespace kumoi::api {
namespace {

using compute::Flavor;

constexpr int64_t kAmountMax = 0x7FFFFFFF;  // Nova's database integer

Result<Reply> show_flavor(Call& call) {
    const Flavor flavor = TRY(find_flavor(call));
    return Reply::json(Json::object({{"flavor", flavor_view(call, flavor)}}));
}

bool is_listed(const Call& call, const Flavor& flavor) {
    if (!call.who.is_admin) {
        return !flavor.disabled &&
               call.conductor().flavors().is_visible(flavor, call.who.project_id);
    }
    // Administrators choose: is_public=None shows all, else public ones by default.
    const std::string wish = call.request.query.first_or("is_public", "true");
    if (equal_ignoring_case(wish, "none")) {
        return true;
    }
    const bool want_public = !(equal_ignoring_case(wish, "false") || wish == "0");
    return flavor.is_public == want_public;
}

Result<void> sort_flavors(const Call& call, std::vector<Flavor>& flavors) {
    const std::string key = call.request.query.first_or("sort_key", "flavorid");
    const std::string direction = call.request.query.first_or("sort_dir", "asc");
    const auto number = [](int64_t value) { return fmt::format("{:020}", value); };
    const auto field = [&](const Flavor& flavor) -> std::optional<std::string> {
        if (key == "flavorid" || key == "id" || key == "created_at" || key == "updated_at") {
            return flavor.flavor_id;
        }
        if (key == "name") {
            return flavor.name;
        }
        if (key == "memory_mb") {
            return number(flavor.memory_mb);
        }
        if (key == "vcpus") {
            return number(flavor.vcpus);
        }
        if (key == "root_gb") {
            return number(flavor.root_gb);
        }
        if (key == "ephemeral_gb") {
            return number(flavor.ephemeral_gb);
        }
        if (key == "swap") {
            return number(flavor.swap_mb);
        }
        return std::nullopt;
    };
    if (!field({}) || (direction != "asc" && direction != "desc")) {
        return Error::invalid(
            "Invalid input for query parameters sort_key or sort_dir. Value: {} {}.", key,
            direction);
    }
    std::stable_sort(flavors.begin(), flavors.end(), [&](const Flavor& a, const Flavor& b) {
        return direction == "asc" ? *field(a) < *field(b) : *field(b) < *field(a);
    });
    return {};
}

Result<Reply> list(Call& call, bool detail) {
    const Page page = TRY(page_of(call.request, call.services.osapi_max_limit));
    const int64_t min_ram = TRY(query_integer(call.request, "minRam")).value_or(0);
    const int64_t min_disk = TRY(query_integer(call.request, "minDisk")).value_or(0);
    std::vector<Flavor> flavors = call.conductor().flavors().list();
    std::erase_if(flavors, [&](const Flavor& flavor) {
        return !is_listed(call, flavor) || flavor.memory_mb < min_ram || flavor.root_gb < min_disk;
    });
    TRY(sort_flavors(call, flavors));
    if (page.marker) {
        const auto marker = std::find_if(flavors.begin(), flavors.end(), [&](const Flavor& flavor) {
            return flavor.flavor_id == *page.marker;
        });
        if (marker == flavors.end()) {
            return Error::invalid("marker [{}] not found", *page.marker);
        }
        flavors.erase(flavors.begin(), marker + 1);
    }
    flavors.resize(std::min(flavors.size(), page.limit));
    Json views = Json::array();
    for (const Flavor& flavor : flavors) {
        views.push_back(detail ? flavor_view(call, flavor) : flavor_summary(call, flavor));
    }
    Json body = Json::object({{"flavors", std::move(views)}});
    if (!flavors.empty() && flavors.size() == page.limit) {
        body.set("flavors_links",
                 next_links(call.request,
                            call.versioned_url() + (detail ? "/flavors/detail" : "/flavors"), page,
                            flavors.back().flavor_id));
    }
    return Reply::json(body);
}

Result<Reply> list_flavors(Call& call) {
    return list(call, false);
}
Result<Reply> list_flavor_details(Call& call) {
    return list(call, true);
}

Result<std::string> parse_flavor_id(const Call& call, Fields& fields) {
    const Json* value = fields.take("id");
    if (value == nullptr || value->is_null() || *value == Json("auto")) {
        return Uuid::generate(call.services.random).text();
    }
    if (const auto number = value->to_int64()) {
        return std::to_string(*number);
    }
    return fields.name("id");
}

Result<Flavor> parse_flavor(const Call& call, const Json& body) {
    Fields fields = TRY(Fields::root(body, "flavor"));
    Flavor flavor;
    flavor.name = TRY(fields.name("name"));
    flavor.flavor_id = TRY(parse_flavor_id(call, fields));
    flavor.memory_mb = TRY(fields.integer("ram", {1, kAmountMax}));
    flavor.vcpus = TRY(fields.integer("vcpus", {1, kAmountMax}));
    flavor.root_gb = TRY(fields.integer("disk", {0, kAmountMax}));
    flavor.ephemeral_gb =
        TRY(fields.optional_integer("OS-FLV-EXT-DATA:ephemeral", {0, kAmountMax})).value_or(0);
    const Json* swap = fields.take("swap");
    if (swap != nullptr && *swap != Json("")) {
        flavor.swap_mb = TRY(fields.integer("swap", {0, kAmountMax}));
    }
    flavor.rxtx_factor = TRY(fields.optional_number("rxtx_factor")).value_or(1.0);
    if (flavor.rxtx_factor <= 0) {
        return invalid_input("rxtx_factor", Json(flavor.rxtx_factor), "It must be above 0.");
    }
    flavor.is_public = TRY(fields.optional_boolean("os-flavor-access:is_public")).value_or(true);
    if (call.at_least(55)) {
        flavor.description = TRY(fields.optional_text("description", {0, 65535}));
    }
    TRY(fields.finish());
    return flavor;
}

Result<Reply> create_flavor(Call& call) {
    TRY(call.authorize("os_compute_api:os-flavor-manage:create"));
    const Json body = TRY(call.body());
    const Flavor flavor = TRY(parse_flavor(call, body));
    TRY(call.conductor().flavors().create(flavor));
    if (!flavor.is_public && !call.who.project_id.empty()) {
        TRY(call.conductor().flavors().add_access(flavor.flavor_id, call.who.project_id));
    }
    return Reply::json(Json::object({{"flavor", flavor_view(call, flavor)}}));
}

Result<Reply> update_flavor(Call& call) {
    TRY(call.authorize("os_compute_api:os-flavor-manage:update"));
    const Json body = TRY(call.body());
    Fields fields = TRY(Fields::root(body, "flavor"));
    TRY(fields.require("description"));
    const auto description = TRY(fields.optional_text("description", {0, 65535}));
    TRY(fields.finish());
    const Flavor flavor =
        TRY(call.conductor().flavors().set_description(call.parameter("flavor_id"), description));
    return Reply::json(Json::object({{"flavor", flavor_view(call, flavor)}}));
}

Result<Reply> delete_flavor(Call& call) {
    TRY(call.authorize("os_compute_api:os-flavor-manage:delete"));
    TRY(call.conductor().flavors().remove(call.parameter("flavor_id")));
    return Reply::accepted();
}

}  // namespace

Result<Flavor> find_flavor(const Call& call) {
    const std::string& id = call.parameter("flavor_id");
    Flavor flavor = TRY(call.conductor().flavors().get(id));
    if (!call.who.is_admin && !call.conductor().flavors().is_visible(flavor, call.who.project_id)) {
        return Error::not_found("Flavor {} could not be found.", id).with_fault("FlavorNotFound");
    }
    return flavor;
}

Json flavor_summary(const Call& call, const Flavor& flavor) {
    Json view = Json::object({{"id", flavor.flavor_id},
                              {"name", flavor.name},
                              {"links", call.links("flavors", flavor.flavor_id)}});
    if (call.at_least(55)) {
        view.set("description", flavor.description);
    }
    return view;
}

Json flavor_view(const Call& call, const Flavor& flavor) {
    // Below 2.75 "no swap" is an empty string.
    const Json swap = flavor.swap_mb == 0 && !call.at_least(75) ? Json("") : Json(flavor.swap_mb);
    Json view = Json::object({{"id", flavor.flavor_id},
                              {"name", flavor.name},
                              {"ram", flavor.memory_mb},
                              {"disk", flavor.root_gb},
                              {"swap", swap},
                              {"OS-FLV-EXT-DATA:ephemeral", flavor.ephemeral_gb},
                              {"OS-FLV-DISABLED:disabled", flavor.disabled},
                              {"vcpus", flavor.vcpus},
                              {"os-flavor-access:is_public", flavor.is_public},
                              {"rxtx_factor", flavor.rxtx_factor},
                              {"links", call.links("flavors", flavor.flavor_id)}});
    if (call.at_least(55)) {
        view.set("description", flavor.description);
    }
    if (call.at_least(61) && call.allows("os_compute_api:os-flavor-extra-specs:index")) {
        view.set("extra_specs", properties_view(flavor.extra_specs));
    }
    return view;
}

Json properties_view(const compute::Properties& properties) {
    Json view = Json::object();
    for (const auto& [key, value] : properties) {
        view.set(key, value);
    }
    return view;
}

void add_flavor_routes(ComputeRoutes& routes) {
    routes.add("GET", "/flavors", list_flavors);
    routes.add("POST", "/flavors", create_flavor);
    routes.add("GET", "/flavors/detail", list_flavor_details);
    routes.add("GET", "/flavors/{flavor_id}", show_flavor);
    routes.add("PUT", "/flavors/{flavor_id}", update_flavor, {55, 96});
    routes.add("DELETE", "/flavors/{flavor_id}", delete_flavor);
}

}  // namespace kumoi::api
