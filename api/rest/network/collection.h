// What every Neutron collection does the same way: filters, sorting, pages and field selection of a
// list, single and bulk bodies. Works on rendered JSON, so a new attribute is filterable at once.
// Neutron API v2 "Filtering and column selection", "Pagination", "Sorting". Pure; any thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "api/http/reply.h"
#include "api/http/request.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::api {

struct Collection {
    std::string singular;                 // "network": key of one
    std::string plural;                   // "networks": key of many
    std::vector<std::string> attributes;  // every name that may be filtered, sorted or selected
};

constexpr size_t kPageSizeMax = 1000;  // also the bound of a list without limit parameter: none

// {"networks": [...], "networks_links": [...]} after filters, sort, marker and limit of the query.
Result<Reply> list_reply(const Collection& collection, const Request& request,
                         std::vector<Json> items);
// {"network": {...}} with the fields the query selects.
Reply show_reply(const Collection& collection, const Request& request, Json item, int status = 200);

// The objects of {"network": {...}} or {"networks": [...]}; `bulk` tells which it was.
struct CreateBodies {
    bool bulk = false;
    std::vector<Json> items;
};
Result<CreateBodies> create_bodies(const Collection& collection, const Request& request);
Result<Json> update_body(const Collection& collection, const Request& request);
Reply create_reply(const Collection& collection, bool bulk, std::vector<Json> items);

// The values of a filter, for narrowing in the database; empty when absent.
std::vector<std::string> filter_values(const Request& request, std::string_view name);

}  // namespace kumoi::api
