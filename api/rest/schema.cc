#include "api/rest/schema.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/uuid.h"

namespace kumoi::api {
namespace {

constexpr size_t kValueShownMax = 400;  // bytes of an offending value that a refusal repeats

std::string shown(const Json& value) {
    std::string text = value.is_string() ? value.as_string() : value.dump();
    if (text.size() > kValueShownMax) {
        size_t cut = kValueShownMax;
        while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) {
            --cut;  // never inside a UTF-8 sequence
        }
        text = text.substr(0, cut) + "...";
    }
    return text;
}

Error not_of_type(std::string_view attribute, const Json& value, std::string_view type) {
    return invalid_input(attribute, value,
                         fmt::format("{} is not of type '{}'", shown(value), type));
}

bool is_control(std::string_view text) {
    return std::any_of(text.begin(), text.end(), [](char raw) {
        const auto c = static_cast<unsigned char>(raw);
        return c < 0x20 || c == 0x7F;
    });
}

Result<void> check_name(std::string_view attribute, const Json& value) {
    const std::string& text = value.as_string();
    if (is_control(text) || text.front() == ' ' || text.back() == ' ') {
        return invalid_input(attribute, value,
                             "It may hold printable characters only, and no space at either end.");
    }
    return {};
}

Result<void> check_text(std::string_view attribute, const Json& value, TextRule rule) {
    if (!value.is_string()) {
        return not_of_type(attribute, value, "string");
    }
    const size_t length = utf8_length(value.as_string());
    if (length < rule.size_min) {
        return invalid_input(attribute, value, fmt::format("'{}' is too short", shown(value)));
    }
    if (length > rule.size_max) {
        return invalid_input(attribute, value,
                             fmt::format("'{}' is too long ({} characters, {} are allowed)",
                                         shown(value), length, rule.size_max));
    }
    return {};
}

std::optional<int64_t> integer_of(const Json& value) {
    if (const auto number = value.to_int64()) {
        return number;
    }
    if (!value.is_string()) {
        return std::nullopt;
    }
    const std::string& text = value.as_string();
    int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
        return std::nullopt;
    }
    return number;
}

}  // namespace

Error invalid_input(std::string_view attribute, const Json& value, std::string_view why) {
    return Error::invalid("Invalid input for field/attribute {}. Value: {}. {}", attribute,
                          shown(value), why);
}

size_t utf8_length(std::string_view text) {
    return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    }));
}

Result<Fields> Fields::root(const Json& body, std::string_view key) {
    Fields fields = TRY(of(body, "body"));
    TRY(fields.require(key));
    const Json* inner = fields.take(key);
    TRY(fields.finish());
    return of(*inner, key);
}

Result<Fields> Fields::of(const Json& value, std::string_view attribute) {
    if (!value.is_object()) {
        return not_of_type(attribute, value, "object");
    }
    return Fields(value, std::string(attribute));
}

bool Fields::has(std::string_view key) {
    return take(key) != nullptr;
}

const Json* Fields::take(std::string_view key) {
    taken_.emplace(key);
    return json_->find(key);
}

Result<void> Fields::require(std::string_view key) const {
    if (!json_->contains(key)) {
        return invalid_input(attribute_, *json_, fmt::format("'{}' is a required property", key));
    }
    return {};
}

Result<void> Fields::finish() const {
    for (const auto& [key, value] : json_->as_object()) {
        if (!taken_.contains(key)) {
            return invalid_input(
                attribute_, *json_,
                fmt::format("Additional properties are not allowed ('{}' was unexpected)", key));
        }
    }
    return {};
}

Result<std::string> Fields::name(std::string_view key) {
    TRY(require(key));
    const Json* value = take(key);
    TRY(check_text(key, *value, {1, 255}));
    TRY(check_name(key, *value));
    return value->as_string();
}

Result<std::optional<std::string>> Fields::optional_name(std::string_view key) {
    const Json* value = take(key);
    if (value == nullptr) {
        return std::optional<std::string>();
    }
    return std::optional(TRY(name(key)));
}

Result<std::string> Fields::text(std::string_view key, TextRule rule) {
    TRY(require(key));
    const Json* value = take(key);
    TRY(check_text(key, *value, rule));
    return value->as_string();
}

Result<std::optional<std::string>> Fields::optional_text(std::string_view key, TextRule rule) {
    const Json* value = take(key);
    if (value == nullptr || value->is_null()) {
        return std::optional<std::string>();
    }
    return std::optional(TRY(text(key, rule)));
}

Result<int64_t> Fields::integer(std::string_view key, JsonRange range) {
    TRY(require(key));
    const Json* value = take(key);
    const auto number = integer_of(*value);
    if (!number) {
        return not_of_type(key, *value, "integer");
    }
    if (*number < range.min) {
        return invalid_input(key, *value,
                             fmt::format("{} is less than the minimum of {}", *number, range.min));
    }
    if (*number > range.max) {
        return invalid_input(
            key, *value, fmt::format("{} is greater than the maximum of {}", *number, range.max));
    }
    return *number;
}

Result<std::optional<int64_t>> Fields::optional_integer(std::string_view key, JsonRange range) {
    const Json* value = take(key);
    if (value == nullptr || value->is_null()) {
        return std::optional<int64_t>();
    }
    return std::optional(TRY(integer(key, range)));
}

Result<std::optional<bool>> Fields::optional_boolean(std::string_view key) {
    const Json* value = take(key);
    if (value == nullptr) {
        return std::optional<bool>();
    }
    if (value->is_bool()) {
        return std::optional(value->as_bool());
    }
    constexpr std::array<std::string_view, 9> yes = {"True", "TRUE", "true", "1",  "ON",
                                                     "On",   "on",   "YES",  "yes"};
    constexpr std::array<std::string_view, 9> no = {"False", "FALSE", "false", "0", "OFF",
                                                    "Off",   "off",   "NO",    "no"};
    if (value->is_string()) {
        if (std::find(yes.begin(), yes.end(), value->as_string()) != yes.end()) {
            return std::optional(true);
        }
        if (std::find(no.begin(), no.end(), value->as_string()) != no.end()) {
            return std::optional(false);
        }
    }
    return not_of_type(key, *value, "boolean");
}

Result<std::optional<double>> Fields::optional_number(std::string_view key) {
    const Json* value = take(key);
    if (value == nullptr || value->is_null()) {
        return std::optional<double>();
    }
    if (value->is_number()) {
        return std::optional(value->as_double());
    }
    if (value->is_string()) {
        const std::string& text = value->as_string();
        double number = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
        if (!text.empty() && error == std::errc() && end == text.data() + text.size()) {
            return std::optional(number);
        }
    }
    return not_of_type(key, *value, "number");
}

Result<std::optional<std::map<std::string, std::string>>> Fields::optional_metadata(
    std::string_view key) {
    const Json* value = take(key);
    if (value == nullptr) {
        return std::optional<std::map<std::string, std::string>>();
    }
    return std::optional(TRY(metadata_from(*value, key)));
}

Result<std::optional<std::string>> Fields::optional_uuid(std::string_view key) {
    const Json* value = take(key);
    if (value == nullptr || value->is_null()) {
        return std::optional<std::string>();
    }
    if (!value->is_string() || !Uuid::parse(value->as_string())) {
        return invalid_input(key, *value, fmt::format("'{}' is not a 'uuid'", shown(*value)));
    }
    return std::optional(value->as_string());
}

Result<void> check_metadata_key(std::string_view key, std::string_view attribute,
                                const Json& value) {
    const bool legal = std::all_of(key.begin(), key.end(), [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' ||
               c == ':' || c == '.' || c == ' ';
    });
    if (!legal || key.empty() || key.size() > 255) {
        return invalid_input(attribute, value,
                             fmt::format("'{}' does not match any of the regexes: "
                                         "'^[a-zA-Z0-9-_:. ]{{1,255}}$'",
                                         key));
    }
    return {};
}

Result<std::map<std::string, std::string>> metadata_from(const Json& value,
                                                         std::string_view attribute) {
    if (!value.is_object()) {
        return not_of_type(attribute, value, "object");
    }
    std::map<std::string, std::string> metadata;
    for (const auto& [key, item] : value.as_object()) {
        TRY(check_metadata_key(key, attribute, value));
        TRY(check_text(key, item, {0, 255}));
        metadata.emplace(key, item.as_string());
    }
    return metadata;
}

}  // namespace kumoi::api
