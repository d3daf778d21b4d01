// Attributes: one object of a Neutron request body, read attribute by attribute with Neutron's
// conversions ("True" is a boolean, "5" an integer) and its words of refusal. finish() refuses what
// nobody asked for: "Unrecognized attribute(s) 'x'". Borrowed; must not outlive the body.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "api/rest/context.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::api {

class Attributes {
public:
    Attributes(const Json& json, bool creating) : json_(json), creating_(creating) {}

    // nullptr when absent. Null counts as present.
    const Json* take(std::string_view name);
    // Absent gives nullopt; null is an error unless the function says otherwise.
    Result<std::optional<std::string>> text(std::string_view name, size_t size_max = 255);
    Result<std::optional<std::string>> uuid(std::string_view name);
    Result<std::optional<bool>> boolean(std::string_view name);
    Result<std::optional<int64_t>> integer(std::string_view name, JsonRange range);
    // Null means: not given.
    Result<std::optional<std::string>> text_or_null(std::string_view name, size_t size_max = 255);
    Result<std::optional<int64_t>> integer_or_null(std::string_view name, JsonRange range);
    Result<std::optional<std::vector<std::string>>> texts(std::string_view name);
    // A list of objects; null counts as empty.
    Result<std::optional<std::vector<Json>>> objects(std::string_view name);
    Result<std::string> required(std::string_view name);
    // What may be set at creation only.
    Result<void> only_at_creation(std::string_view name);
    // Accepted with this value only (an attribute of a feature we do not have).
    Result<void> fixed(std::string_view name, const Json& value);
    // project_id or tenant_id, the caller's own unless it is an admin.
    Result<std::string> project(const AuthContext& who);
    Result<void> finish() const;

    Error invalid(std::string_view name, std::string_view reason) const;

private:
    const Json& json_;
    const bool creating_;
    std::set<std::string, std::less<>> taken_;
};

}  // namespace kumoi::api
