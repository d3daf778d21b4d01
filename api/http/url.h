// Request targets and URLs: percent coding (RFC 3986 §2.1), decoded path segments, decoded query in
// order. All pure functions. Hostile input gives an Error or nullopt, never a guess: a broken
// escape, a NUL byte or text that is not UTF-8 after decoding is refused.
//
//     QueryMap query = ...;  // "?tags=a&tags=b%20c&limit=5"
//     query.first("limit") == "5"; query.all("tags") == {"a", "b c"}; query.has("marker") == false
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace kumoi::api {

// Query parameters in order, names case-sensitive, repeats kept.
class QueryMap {
public:
    using Parameter = std::pair<std::string, std::string>;

    void add(std::string name, std::string value);
    bool has(std::string_view name) const { return find(name) != nullptr; }
    const std::string* find(std::string_view name) const;  // first value or nullptr
    std::optional<std::string> first(std::string_view name) const;
    std::string first_or(std::string_view name, std::string_view other = {}) const;
    std::vector<std::string> all(std::string_view name) const;
    void erase(std::string_view name);
    void set(std::string_view name, std::string value);  // replaces every earlier one

    size_t size() const { return parameters_.size(); }
    bool empty() const { return parameters_.empty(); }
    auto begin() const { return parameters_.begin(); }
    auto end() const { return parameters_.end(); }

    // "a=1&b=x%20y", for links to the next page. No leading question mark.
    std::string encode() const;

private:
    std::vector<Parameter> parameters_;
};

struct Target {
    std::string path;                   // as sent, without query
    std::vector<std::string> segments;  // decoded; "/" has none; a trailing slash adds none
    QueryMap query;
    std::string authority;  // of absolute-form; else empty
};

constexpr size_t kPathSegmentCountMax = 64;
constexpr size_t kQueryParameterCountMax = 1024;

// origin-form, absolute-form or "*" (RFC 9112 §3.2); authority-form (CONNECT) is refused.
Result<Target> parse_target(std::string_view raw_target);

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false);
std::string percent_encode(std::string_view text);  // all but unreserved characters
bool valid_utf8(std::string_view text);

}  // namespace kumoi::api
