#include "api/rest/identity/identity_views.h"

#include <algorithm>
#include <charconv>

#include "base/clock.h"

namespace kumoi::api::identity {
namespace {

namespace records = compute::identity;

constexpr size_t kLimitMax = 1000;

Json self_link(const std::string& base, std::string_view kind, const std::string& id) {
    return Json::object({{"self", fmt::format("{}/{}/{}", base, kind, percent_encode(id))}});
}

bool is_true(std::string_view text) {
    return text == "1" || equal_ignoring_case(text, "true") || text.empty();
}

bool equals(const Json* value, const std::string& wanted) {
    if (value == nullptr || value->is_null()) {
        return wanted.empty() || wanted == "null";
    }
    if (value->is_bool()) {
        return value->as_bool() == is_true(wanted);
    }
    return value->is_string() && value->as_string() == wanted;
}

bool passes_name_filters(const Request& request, const Json& item) {
    const std::string name = item.string_or("name");
    const std::string lower = lower_case(name);
    for (const auto& [parameter, value] : request.query) {
        if (!parameter.starts_with("name__")) {
            continue;
        }
        const bool ignore_case = parameter.starts_with("name__i");
        const std::string& have = ignore_case ? lower : name;
        const std::string wanted = ignore_case ? lower_case(value) : value;
        const std::string_view test = std::string_view(parameter).substr(ignore_case ? 7 : 6);
        if ((test == "contains" && have.find(wanted) == std::string::npos) ||
            (test == "startswith" && !have.starts_with(wanted)) ||
            (test == "endswith" && !have.ends_with(wanted)) ||
            (test == "exact" && have != wanted)) {
            return false;
        }
    }
    return true;
}

// Cuts the page out of `items`; true when more follow.
Result<bool> cut_page(const Request& request, Json::Array& items) {
    if (const auto marker = request.query.first("marker")) {
        const auto found = std::find_if(items.begin(), items.end(), [&](const Json& item) {
            return item.string_or("id") == *marker;
        });
        if (found == items.end()) {
            return Error::invalid("The marker {} is not in the list.", *marker);
        }
        items.erase(items.begin(), found + 1);
    }
    const auto limit_text = request.query.first("limit");
    if (!limit_text) {
        return false;
    }
    size_t limit = 0;
    const char* const end = limit_text->data() + limit_text->size();
    const auto [stop, failure] = std::from_chars(limit_text->data(), end, limit);
    if (failure != std::errc() || stop != end || limit == 0) {
        return Error::invalid("limit: expected a number from 1, got {}.", *limit_text);
    }
    limit = std::min(limit, kLimitMax);
    const bool more = items.size() > limit;
    if (more) {
        items.resize(limit);
    }
    return more;
}

}  // namespace

std::string v3_base(const Request& request) {
    return request.base_url() + "/v3";
}

Json domain_reference() {
    return Json::object({{"id", records::kDefaultDomainId}, {"name", records::kDefaultDomainName}});
}

Json domain_view(const std::string& base) {
    return Json::object({{"id", records::kDefaultDomainId},
                         {"name", records::kDefaultDomainName},
                         {"description", "The default domain"},
                         {"enabled", true},
                         {"tags", Json::array()},
                         {"options", Json::object()},
                         {"links", self_link(base, "domains", records::kDefaultDomainId)}});
}

Json project_view(const std::string& base, const records::Project& project) {
    return Json::object({{"id", project.id},
                         {"name", project.name},
                         {"domain_id", records::kDefaultDomainId},
                         {"description", project.description},
                         {"enabled", project.enabled},
                         {"parent_id", records::kDefaultDomainId},
                         {"is_domain", false},
                         {"tags", Json::array_of(project.tags)},
                         {"options", Json::object()},
                         {"links", self_link(base, "projects", project.id)}});
}

Json user_view(const std::string& base, const records::User& user) {
    Json view = Json::object({{"id", user.id},
                              {"name", user.name},
                              {"domain_id", records::kDefaultDomainId},
                              {"enabled", user.enabled},
                              {"default_project_id", user.default_project_id},
                              {"description", user.description},
                              {"password_expires_at", nullptr},
                              {"options", Json::object()},
                              {"links", self_link(base, "users", user.id)}});
    if (user.email) {
        view.set("email", *user.email);
    }
    return view;
}

Json role_view(const std::string& base, const records::Role& role) {
    return Json::object({{"id", role.id},
                         {"name", role.name},
                         {"domain_id", nullptr},
                         {"description", role.description},
                         {"options", Json::object()},
                         {"links", self_link(base, "roles", role.id)}});
}

Json app_credential_view(const std::string& base, const records::AppCredential& record) {
    Json::Array roles;
    for (const auto& role : record.roles) {
        roles.push_back(
            Json::object({{"id", role.id}, {"name", role.name}, {"domain_id", nullptr}}));
    }
    const std::string kind = "users/" + percent_encode(record.user_id) + "/application_credentials";
    return Json::object(
        {{"id", record.id},
         {"name", record.name},
         {"description", record.description},
         {"user_id", record.user_id},
         {"project_id", record.project_id},
         {"roles", Json(std::move(roles))},
         {"expires_at", record.expires_ns ? Json(iso8601_micros(*record.expires_ns)) : Json()},
         {"unrestricted", record.unrestricted},
         {"system", nullptr},
         {"links", self_link(base, kind, record.id)}});
}

Json service_view(const std::string& base, const records::Service& service) {
    return Json::object({{"id", service.id},
                         {"type", service.type},
                         {"name", service.name},
                         {"description", ""},
                         {"enabled", service.enabled},
                         {"links", self_link(base, "services", service.id)}});
}

Json endpoint_view(const std::string& base, const records::Endpoint& endpoint) {
    return Json::object({{"id", endpoint.id},
                         {"service_id", endpoint.service_id},
                         {"interface", endpoint.interface},
                         {"region", endpoint.region_id},
                         {"region_id", endpoint.region_id},
                         {"url", endpoint.url},
                         {"enabled", endpoint.enabled},
                         {"links", self_link(base, "endpoints", endpoint.id)}});
}

Json region_view(const std::string& base, const records::Region& region) {
    return Json::object({{"id", region.id},
                         {"description", region.description},
                         {"parent_region_id", nullptr},
                         {"links", self_link(base, "regions", region.id)}});
}

Result<Reply> collection(const Request& request, std::string_view key, Json::Array items,
                         std::initializer_list<std::string_view> filters) {
    std::erase_if(items, [&](const Json& item) {
        for (const std::string_view filter : filters) {
            const auto wanted = request.query.first(filter);
            if (wanted && !equals(item.find(filter), *wanted)) {
                return true;
            }
        }
        return !passes_name_filters(request, item);
    });
    const bool more = TRY(cut_page(request, items));
    Json next;
    if (more) {
        QueryMap query = request.query;
        query.set("marker", items.back().string_or("id"));
        next = Json(fmt::format("{}{}?{}", request.base_url(), request.path, query.encode()));
    }
    Json body = Json::object();
    body.set(key, Json(std::move(items)));
    body.set("links", Json::object({{"self", request.base_url() + request.raw_target},
                                    {"previous", nullptr},
                                    {"next", std::move(next)}}));
    return Reply::json(body);
}

}  // namespace kumoi::api::identity
