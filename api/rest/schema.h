// Fields: one JSON object of a request body, read member by member, with refusals in the words of
// Nova's schema checks: "Invalid input for field/attribute name. Value: 5. 5 is not of type
// 'string'". Members nobody asked for are refused by finish(), as additionalProperties: false does.
// Borrowed; must not outlive the body. A missing or null optional gives nullopt.
//
//     Fields server = TRY(Fields::root(body, "server"));
//     std::string name = TRY(server.name("name"));
//     auto key = TRY(server.optional_text("key_name", {1, 255}));
//     TRY(server.finish());                          // anything else is unexpected
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::api {

struct TextRule {
    size_t size_min = 0;
    size_t size_max = 255;  // characters
};

// "Invalid input for field/attribute <name>. Value: <value>. <why>"
Error invalid_input(std::string_view attribute, const Json& value, std::string_view why);

class Fields {
public:
    // The body must be {"<key>": {...}} and nothing else.
    static Result<Fields> root(const Json& body, std::string_view key);
    static Result<Fields> of(const Json& value, std::string_view attribute);

    bool has(std::string_view key);          // present, null included
    const Json* take(std::string_view key);  // nullptr when absent; counts as asked for
    void ignore(std::string_view key) { (void)take(key); }

    // Nova's name rule: 1 to 255 characters, printable, no space at either end.
    Result<std::string> name(std::string_view key);
    Result<std::optional<std::string>> optional_name(std::string_view key);
    Result<std::string> text(std::string_view key, TextRule rule = {});
    Result<std::optional<std::string>> optional_text(std::string_view key, TextRule rule = {});
    // Integers, and strings of digits, as Nova takes both.
    Result<int64_t> integer(std::string_view key, JsonRange range);
    Result<std::optional<int64_t>> optional_integer(std::string_view key, JsonRange range);
    // true, false, and Nova's words for them ("True", "on", "0" ...).
    Result<std::optional<bool>> optional_boolean(std::string_view key);
    Result<std::optional<double>> optional_number(std::string_view key);
    // Keys of 1 to 255 of [a-zA-Z0-9-_:. ], values of at most 255 characters.
    Result<std::optional<std::map<std::string, std::string>>> optional_metadata(
        std::string_view key);
    Result<std::optional<std::string>> optional_uuid(std::string_view key);

    Result<void> require(std::string_view key) const;
    Result<void> finish() const;  // refuses members that were not taken
    const Json& json() const { return *json_; }

private:
    Fields(const Json& json, std::string attribute)
        : json_(&json), attribute_(std::move(attribute)) {}

    const Json* json_;
    std::string attribute_;
    std::set<std::string, std::less<>> taken_;
};

// Metadata by itself, for bodies that are {"metadata": {...}}.
Result<std::map<std::string, std::string>> metadata_from(const Json& value,
                                                         std::string_view attribute);
Result<void> check_metadata_key(std::string_view key, std::string_view attribute,
                                const Json& value);
size_t utf8_length(std::string_view text);  // code points

}  // namespace kumoi::api
