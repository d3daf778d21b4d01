// Pages of a collection as Nova has them: ?limit=&marker=, at most osapi_max_limit items a page, a
// "next" link when there may be more. Pure.
#pragma once

#include <optional>
#include <string>

#include "api/http/request.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::api {

struct Page {
    size_t limit = 1000;  // 0: the client asked for none
    std::optional<std::string> marker;
};

// "limit param must be an integer", "limit param must be positive": 400, as Nova.
Result<Page> page_of(const Request& request, size_t limit_max);

// Nova's strict integer of a query parameter.
Result<std::optional<int64_t>> query_integer(const Request& request, std::string_view name);

// [{"rel": "next", "href": ".../servers?limit=2&marker=<id>"}]; other parameters are kept.
Json next_links(const Request& request, const std::string& collection_url, const Page& page,
                const std::string& last_id);

}  // namespace kumoi::api
