// ServerFilter: which servers a list shows and in what order: Nova's query parameters of GET
// /servers, who may use which, and from which microversion on an unknown one is refused. The name
// pattern is a regular expression of a stranger: PCRE2 with limits on size, matching steps and
// memory.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/rest/compute/compute_api.h"

namespace kumoi::api {

// A compiled pattern of hostile origin. Immutable; matching is thread safe.
class SafeRegex {
public:
    static Result<SafeRegex> compile(const std::string& pattern);
    // Searches (no anchors). A match that exceeds the step limit counts as no match.
    bool matches(const std::string& text) const;

private:
    explicit SafeRegex(std::shared_ptr<const void> code) : code_(std::move(code)) {}
    std::shared_ptr<const void> code_;  // shared: the filter that holds it is copied
};

struct ServerFilter {
    using Test = std::function<bool(const compute::Instance&)>;

    bool all_projects = false;
    std::string project_id;  // of the caller, or asked for by an administrator
    bool deleted_only = false;
    bool deleted_too = false;  // changes-since shows what was deleted meanwhile
    int64_t deleted_since_ns = 0;
    bool soft_deleted_too =
        false;  // else those that wait to be reclaimed are not shown, as in Nova
    std::vector<Test> tests;
    // Field and direction; empty: newest first, as they are stored.
    std::vector<std::pair<std::string, bool>> sort;  // true: ascending

    bool matches(const compute::Instance& instance) const;
};

Result<ServerFilter> parse_server_filter(const Call& call, bool detail);
// What a sort key or an equality filter compares; nullopt for names that are none.
std::optional<std::string> server_field(const compute::Instance& instance, std::string_view field);

}  // namespace kumoi::api
