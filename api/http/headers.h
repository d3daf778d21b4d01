// HeaderMap: header fields in the order they were sent, names compared without regard to case, a
// name may occur many times (RFC 9110 §5). Used by requests, replies and the client. A plain value.
//
//     request.headers.first("X-Auth-Token")            // optional<string>, the first one
//     request.headers.all("X-Image-Meta")              // every value, in order
//     reply.headers.add("Link", ...); reply.headers.set("Location", ...);
//
// Names and values that would break the message (control bytes, CR, LF) are refused by valid_*();
// whatever arrives through our parser passed them, and replies are checked when they are
// serialised.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kumoi::api {

bool equal_ignoring_case(std::string_view left, std::string_view right);  // ASCII only
std::string lower_case(std::string_view text);                            // ASCII only
std::string_view trim(std::string_view text);                             // spaces and tabs

class HeaderMap {
public:
    using Field = std::pair<std::string, std::string>;

    void add(std::string name, std::string value);
    void set(std::string_view name, std::string value);  // replaces every earlier one
    void erase(std::string_view name);

    bool has(std::string_view name) const { return find(name) != nullptr; }
    const std::string* find(std::string_view name) const;  // first value or nullptr
    std::optional<std::string> first(std::string_view name) const;
    std::string first_or(std::string_view name, std::string_view other = {}) const;
    std::vector<std::string> all(std::string_view name) const;
    size_t count(std::string_view name) const;
    // The members of a comma separated list over all fields of that name, trimmed, none empty.
    std::vector<std::string> list(std::string_view name) const;
    bool list_has(std::string_view name, std::string_view member) const;  // case-insensitive

    size_t size() const { return fields_.size(); }
    bool empty() const { return fields_.empty(); }
    auto begin() const { return fields_.begin(); }
    auto end() const { return fields_.end(); }

private:
    std::vector<Field> fields_;
};

bool valid_header_name(std::string_view name);    // RFC 9110 §5.6.2 token
bool valid_header_value(std::string_view value);  // no control bytes except tab

}  // namespace kumoi::api
