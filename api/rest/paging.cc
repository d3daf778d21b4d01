#include "api/rest/paging.h"

#include <algorithm>
#include <charconv>

namespace kumoi::api {

Result<std::optional<int64_t>> query_integer(const Request& request, std::string_view name) {
    const auto text = request.query.first(name);
    if (!text) {
        return std::optional<int64_t>();
    }
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (text->empty() || error != std::errc() || end != text->data() + text->size()) {
        return Error::invalid("{} param must be an integer", name);
    }
    if (value < 0) {
        return Error::invalid("{} param must be positive", name);
    }
    return std::optional(value);
}

Result<Page> page_of(const Request& request, size_t limit_max) {
    Page page;
    page.limit = limit_max;
    if (const auto limit = TRY(query_integer(request, "limit"))) {
        page.limit = std::min(limit_max, static_cast<size_t>(*limit));
    }
    page.marker = request.query.first("marker");
    return page;
}

Json next_links(const Request& request, const std::string& collection_url, const Page& page,
                const std::string& last_id) {
    QueryMap query = request.query;
    query.set("limit", std::to_string(page.limit));
    query.set("marker", last_id);
    return Json(Json::Array{
        Json::object({{"rel", "next"}, {"href", collection_url + "?" + query.encode()}})});
}

}  // namespace kumoi::api
