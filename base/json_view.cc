// The typed, path-carrying reader declared in json.h.
#include "base/json.h"

namespace kumoi {

std::string JsonView::child_path(std::string_view key) const {
    return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

Error JsonView::error(std::string_view what) const {
    return Error::invalid("{}: {}", path_.empty() ? "document" : path_, what);
}

Error JsonView::wrong_type(std::string_view expected) const {
    return error(fmt::format("expected {}, got {}", expected, json_->type_name()));
}

bool JsonView::has(std::string_view key) const {
    const Json* found = json_->find(key);
    return found != nullptr && !found->is_null();
}

Result<JsonView> JsonView::at(std::string_view key) const {
    if (!json_->is_object()) {
        return wrong_type("object");
    }
    const Json* found = json_->find(key);
    if (found == nullptr) {
        return JsonView(*json_, child_path(key)).error("is required and missing");
    }
    return JsonView(*found, child_path(key));
}

Result<JsonView> JsonView::object(std::string_view key) const {
    JsonView found = TRY(at(key));
    if (!found.json().is_object()) {
        return found.wrong_type("object");
    }
    return found;
}

Result<std::vector<JsonView>> JsonView::array(std::string_view key) const {
    return TRY(at(key)).as_array();
}

Result<std::string> JsonView::string(std::string_view key) const {
    return TRY(at(key)).as_string();
}

Result<std::string> JsonView::string_or(std::string_view key, std::string_view other) const {
    if (!present(key)) {
        return std::string(other);
    }
    return string(key);
}

Result<int64_t> JsonView::integer(std::string_view key, JsonRange range) const {
    return TRY(at(key)).as_integer(range);
}

Result<int64_t> JsonView::integer_or(std::string_view key, int64_t other, JsonRange range) const {
    if (!present(key)) {
        return other;
    }
    return integer(key, range);
}

Result<double> JsonView::number(std::string_view key) const {
    const JsonView found = TRY(at(key));
    if (!found.json().is_number()) {
        return found.wrong_type("number");
    }
    return found.json().as_double();
}

Result<bool> JsonView::boolean(std::string_view key) const {
    return TRY(at(key)).as_boolean();
}

Result<bool> JsonView::boolean_or(std::string_view key, bool other) const {
    if (!present(key)) {
        return other;
    }
    return boolean(key);
}

Result<void> JsonView::only(std::initializer_list<std::string_view> known) const {
    if (!json_->is_object()) {
        return wrong_type("object");
    }
    for (const auto& member : json_->as_object()) {
        const std::string_view key = member.first;
        bool found = false;
        for (const std::string_view name : known) {
            found = found || name == key;
        }
        if (found) {
            continue;
        }
        Error refusal = JsonView(*json_, child_path(key)).error("is not a known member");
        const auto near = nearest_name(key, std::vector<std::string>(known.begin(), known.end()));
        if (near) {
            return std::move(refusal).with_hint(fmt::format("Did you mean '{}'?", *near));
        }
        return refusal;
    }
    return {};
}

Result<std::string> JsonView::as_string() const {
    if (!json_->is_string()) {
        return wrong_type("string");
    }
    return json_->as_string();
}

Result<int64_t> JsonView::as_integer(JsonRange range) const {
    if (!json_->is_integer()) {
        return wrong_type("integer");
    }
    const auto value = json_->to_int64();
    if (!value || *value < range.min || *value > range.max) {
        return error(fmt::format("{} is outside {} to {}", json_->dump(), range.min, range.max));
    }
    return *value;
}

Result<bool> JsonView::as_boolean() const {
    if (!json_->is_bool()) {
        return wrong_type("boolean");
    }
    return json_->as_bool();
}

Result<std::vector<JsonView>> JsonView::as_array() const {
    if (!json_->is_array()) {
        return wrong_type("array");
    }
    std::vector<JsonView> items;
    items.reserve(json_->size());
    for (const Json& item : json_->as_array()) {
        items.emplace_back(item, fmt::format("{}[{}]", path_, items.size()));
    }
    return items;
}

}  // namespace kumoi
