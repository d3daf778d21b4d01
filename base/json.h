// Json: one JSON value (RFC 8259), and JsonView, a typed reader whose errors name the path.
//
// Parsing is hostile-input safe: iterative (no stack growth), UTF-8 checked, depth limit 64, a size
// limit of the caller's choice, full double precision, int64/uint64 exact. Objects keep insertion
// order; of duplicate keys the first wins. Json is a value: copy, move, no sharing, no locks.
//
//     auto body  = TRY(Json::parse(text));
//     JsonView server = TRY(JsonView(body).object("server"));
//     std::string name = TRY(server.string("name"));              // error: "server.name: expected
//     ..." int64_t count    = TRY(server.integer_or("min_count", 1, {1, 100})); Json reply =
//     Json::object({{"id", uuid.text()}, {"links", Json::array()}});
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace kumoi {

struct JsonLimits {
    size_t size_max = 16u << 20;  // bytes
    size_t depth_max = 64;
};

class Json {
public:
    using Array = std::vector<Json>;
    using Member = std::pair<std::string, Json>;
    using Object = std::vector<Member>;

    Json() = default;  // null
    Json(std::nullptr_t) {}
    Json(bool value) : value_(value) {}
    template <class T>
        requires(std::is_integral_v<T> && !std::is_same_v<T, bool> && std::is_signed_v<T>)
    Json(T value) : value_(static_cast<int64_t>(value)) {}
    template <class T>
        requires(std::is_integral_v<T> && !std::is_same_v<T, bool> && std::is_unsigned_v<T>)
    Json(T value) : value_(static_cast<uint64_t>(value)) {}
    Json(double value) : value_(value) {}
    Json(const char* value) : value_(std::string(value)) {}
    Json(std::string_view value) : value_(std::string(value)) {}
    Json(std::string value) : value_(std::move(value)) {}
    Json(Array value) : value_(std::move(value)) {}
    template <class T>
    Json(const std::optional<T>& value) : Json(value ? Json(*value) : Json()) {}

    static Json array() { return Json(Array()); }
    static Json object() {
        Json json;
        json.value_ = Object();
        return json;
    }
    static Json object(std::initializer_list<Member> members);
    template <class Range>
    static Json array_of(const Range& range) {
        Array items;
        for (const auto& item : range) {
            items.emplace_back(item);
        }
        return Json(std::move(items));
    }

    static Result<Json> parse(std::string_view text, JsonLimits limits = {});
    std::string dump() const;                // compact
    std::string dump_pretty() const;         // two spaces
    void append_to(std::string& out) const;  // compact, appended

    bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
    bool is_bool() const { return std::holds_alternative<bool>(value_); }
    bool is_integer() const;  // int64 or uint64
    bool is_number() const { return is_integer() || std::holds_alternative<double>(value_); }
    bool is_string() const { return std::holds_alternative<std::string>(value_); }
    bool is_array() const { return std::holds_alternative<Array>(value_); }
    bool is_object() const { return std::holds_alternative<Object>(value_); }
    std::string_view type_name() const;

    // Each asserts the type: ask is_*() first, or use JsonView.
    bool as_bool() const;
    int64_t as_int64() const;  // asserts that it fits
    double as_double() const;
    const std::string& as_string() const;
    const Array& as_array() const;
    Array& as_array();
    const Object& as_object() const;
    Object& as_object();
    std::optional<int64_t> to_int64() const;    // integers that fit
    std::optional<uint64_t> to_uint64() const;  // integers that fit

    // Objects. find(): nullptr when absent or when this is no object.
    const Json* find(std::string_view key) const;
    Json* find(std::string_view key);
    bool contains(std::string_view key) const { return find(key) != nullptr; }
    Json& operator[](std::string_view key);  // makes this an object if null, and adds the key
    void set(std::string_view key, Json value) { (*this)[key] = std::move(value); }
    bool erase(std::string_view key);
    // find(a)->find(b)...; nullptr when any step is missing.
    const Json* find_path(std::initializer_list<std::string_view> keys) const;
    // Shorthands for tests and optional members: absent or of another type gives the default.
    std::string string_or(std::string_view key, std::string_view other = {}) const;
    int64_t integer_or(std::string_view key, int64_t other = 0) const;
    bool bool_or(std::string_view key, bool other = false) const;

    // Arrays.
    void push_back(Json value);
    size_t size() const;  // members or items; 0 for scalars

    // Equal types and values; objects compare regardless of member order; 1 == 1u, 1 != 1.0.
    bool operator==(const Json& other) const;

private:
    std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string, Array, Object>
        value_;
};

struct JsonRange {
    int64_t min = INT64_MIN;
    int64_t max = INT64_MAX;
};

// A borrowed Json plus the path that led to it. Cheap to copy; must not outlive the Json.
class JsonView {
public:
    explicit JsonView(const Json& json, std::string path = {})
        : json_(&json), path_(std::move(path)) {}

    const Json& json() const { return *json_; }
    const std::string& path() const { return path_; }
    bool has(std::string_view key) const;  // present and not null
    bool present(std::string_view key) const { return json_->contains(key); }

    Result<JsonView> at(std::string_view key) const;  // error when absent
    Result<JsonView> object(std::string_view key) const;
    Result<std::vector<JsonView>> array(std::string_view key) const;
    Result<std::string> string(std::string_view key) const;
    Result<std::string> string_or(std::string_view key, std::string_view other) const;
    Result<int64_t> integer(std::string_view key, JsonRange range = {}) const;
    Result<int64_t> integer_or(std::string_view key, int64_t other, JsonRange range = {}) const;
    Result<double> number(std::string_view key) const;
    Result<bool> boolean(std::string_view key) const;
    Result<bool> boolean_or(std::string_view key, bool other) const;
    // Refuses members that are not in `known`, naming the nearest one.
    Result<void> only(std::initializer_list<std::string_view> known) const;

    // This value itself.
    Result<std::string> as_string() const;
    Result<int64_t> as_integer(JsonRange range = {}) const;
    Result<bool> as_boolean() const;
    Result<std::vector<JsonView>> as_array() const;
    Error wrong_type(std::string_view expected) const;
    Error error(std::string_view what) const;  // "path: what"

private:
    std::string child_path(std::string_view key) const;
    const Json* json_;
    std::string path_;
};

// The nearest of `candidates` by edit distance, if near enough to be meant; used for suggestions.
std::optional<std::string> nearest_name(std::string_view name,
                                        const std::vector<std::string>& candidates);

}  // namespace kumoi
