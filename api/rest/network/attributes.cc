#include "api/rest/network/attributes.h"

#include <charconv>

#include "api/rest/schema.h"
#include "base/uuid.h"

namespace kumoi::api {
namespace {

Error bad_request(std::string message) {
    return Error::invalid("{}", message).with_fault("HTTPBadRequest");
}

std::optional<bool> to_boolean(const Json& value) {
    if (value.is_bool()) {
        return value.as_bool();
    }
    const std::string text = value.is_string() ? value.as_string() : value.dump();
    if (text == "True" || text == "true" || text == "1") {
        return true;
    }
    if (text == "False" || text == "false" || text == "0") {
        return false;
    }
    return std::nullopt;
}

std::optional<int64_t> to_integer(const Json& value) {
    if (value.is_integer()) {
        return value.to_int64();
    }
    if (!value.is_string()) {
        return std::nullopt;
    }
    const std::string& text = value.as_string();
    int64_t number = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
    return failure == std::errc() && end == text.data() + text.size() ? std::optional(number)
                                                                      : std::nullopt;
}

}  // namespace

Error Attributes::invalid(std::string_view name, std::string_view reason) const {
    return bad_request(fmt::format("Invalid input for {}. Reason: {}.", name, reason));
}

const Json* Attributes::take(std::string_view name) {
    taken_.insert(std::string(name));
    return json_.find(name);
}

Result<std::optional<std::string>> Attributes::text(std::string_view name, size_t size_max) {
    const Json* value = take(name);
    if (value == nullptr) {
        return std::optional<std::string>();
    }
    if (!value->is_string()) {
        return invalid(name, fmt::format("'{}' is not a valid string", value->dump()));
    }
    if (utf8_length(value->as_string()) > size_max) {
        return invalid(
            name, fmt::format("'{}' exceeds maximum length of {}", value->as_string(), size_max));
    }
    return std::optional(value->as_string());
}

Result<std::optional<std::string>> Attributes::text_or_null(std::string_view name,
                                                            size_t size_max) {
    const Json* value = take(name);
    if (value != nullptr && value->is_null()) {
        return std::optional<std::string>();
    }
    return text(name, size_max);
}

Result<std::optional<std::string>> Attributes::uuid(std::string_view name) {
    auto value = TRY(text_or_null(name));
    if (value && !Uuid::parse(*value)) {
        return invalid(name, fmt::format("'{}' is not a valid UUID", *value));
    }
    return value;
}

Result<std::optional<bool>> Attributes::boolean(std::string_view name) {
    const Json* value = take(name);
    if (value == nullptr) {
        return std::optional<bool>();
    }
    const auto result = to_boolean(*value);
    if (!result) {
        return invalid(name, fmt::format("'{}' cannot be converted to boolean", value->dump()));
    }
    return result;
}

Result<std::optional<int64_t>> Attributes::integer(std::string_view name, JsonRange range) {
    const Json* value = take(name);
    if (value == nullptr) {
        return std::optional<int64_t>();
    }
    const auto result = to_integer(*value);
    if (!result) {
        return invalid(name, fmt::format("'{}' is not an integer", value->dump()));
    }
    if (*result < range.min || *result > range.max) {
        return invalid(
            name, fmt::format("'{}' is not in the range {} to {}", *result, range.min, range.max));
    }
    return result;
}

Result<std::optional<int64_t>> Attributes::integer_or_null(std::string_view name, JsonRange range) {
    const Json* value = take(name);
    if (value != nullptr && value->is_null()) {
        return std::optional<int64_t>();
    }
    return integer(name, range);
}

Result<std::optional<std::vector<std::string>>> Attributes::texts(std::string_view name) {
    const Json* value = take(name);
    if (value == nullptr) {
        return std::optional<std::vector<std::string>>();
    }
    std::vector<std::string> items;
    if (!value->is_null()) {
        if (!value->is_array()) {
            return invalid(name, fmt::format("'{}' is not a list", value->dump()));
        }
        for (const Json& item : value->as_array()) {
            if (!item.is_string()) {
                return invalid(name, fmt::format("'{}' is not a string", item.dump()));
            }
            items.push_back(item.as_string());
        }
    }
    return std::optional(std::move(items));
}

Result<std::optional<std::vector<Json>>> Attributes::objects(std::string_view name) {
    const Json* value = take(name);
    if (value == nullptr) {
        return std::optional<std::vector<Json>>();
    }
    std::vector<Json> items;
    if (!value->is_null()) {
        if (!value->is_array()) {
            return invalid(name, fmt::format("'{}' is not a list", value->dump()));
        }
        for (const Json& item : value->as_array()) {
            if (!item.is_object()) {
                return invalid(name, fmt::format("'{}' is not a dictionary", item.dump()));
            }
            items.push_back(item);
        }
    }
    return std::optional(std::move(items));
}

Result<std::string> Attributes::required(std::string_view name) {
    auto value = TRY(text(name));
    if (!value) {
        return bad_request(
            fmt::format("Failed to parse request. Required attribute '{}' not specified", name));
    }
    return *value;
}

Result<void> Attributes::only_at_creation(std::string_view name) {
    if (!creating_ && json_.contains(name)) {
        return bad_request(fmt::format("Cannot update read-only attribute {}", name));
    }
    return {};
}

Result<void> Attributes::fixed(std::string_view name, const Json& value) {
    const Json* given = take(name);
    if (given == nullptr || *given == value || (given->is_array() && given->size() == 0)) {
        return {};
    }
    if (value.is_bool() && to_boolean(*given) == value.as_bool()) {
        return {};
    }
    return invalid(name,
                   fmt::format("'{}' is not offered here, only '{}'", given->dump(), value.dump()));
}

Result<std::string> Attributes::project(const AuthContext& who) {
    auto project = TRY(text_or_null("project_id"));
    auto tenant = TRY(text_or_null("tenant_id"));
    if (project && tenant && *project != *tenant) {
        return bad_request("'project_id' and 'tenant_id' do not match");
    }
    const std::string wanted = project.value_or(tenant.value_or(who.project_id));
    if (wanted != who.project_id && !who.is_admin) {
        return bad_request(
            "Specifying 'project_id' or 'tenant_id' other than the authenticated "
            "project in request requires admin privileges");
    }
    if (wanted.empty()) {
        return bad_request("The token is scoped to no project, and the request names none");
    }
    return wanted;
}

Result<void> Attributes::finish() const {
    std::string unknown;
    for (const auto& [name, value] : json_.as_object()) {
        if (!taken_.contains(name)) {
            unknown += (unknown.empty() ? "" : ", ") + name;
        }
    }
    if (!unknown.empty()) {
        return bad_request(fmt::format("Unrecognized attribute(s) '{}'", unknown));
    }
    return {};
}

}  // namespace kumoi::api
