#include "api/rest/network/collection.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

namespace kumoi::api {
namespace {

constexpr size_t kBulkCountMax = 200;

const std::set<std::string, std::less<>> kControls = {"fields",   "limit",    "marker",
                                                      "sort_key", "sort_dir", "page_reverse"};

Error bad_request(std::string message) {
    return Error::invalid("{}", message).with_fault("HTTPBadRequest");
}

bool known(const Collection& collection, std::string_view name) {
    return std::find(collection.attributes.begin(), collection.attributes.end(), name) !=
           collection.attributes.end();
}

bool scalar_matches(const Json& value, const std::string& wanted) {
    if (value.is_string()) {
        return value.as_string() == wanted;
    }
    if (value.is_bool()) {
        const std::string text = lower_case(wanted);
        const bool yes = text == "true" || text == "1" || text == "t" || text == "yes";
        return value.as_bool() == yes;
    }
    if (value.is_null()) {
        return wanted.empty() || wanted == "None" || wanted == "null";
    }
    return value.dump() == wanted;
}

// fixed_ips=ip_address=10.0.0.5 or subnet_id=...; ip_address_substr for a part of it.
bool fixed_ip_matches(const Json& fixed_ips, const std::string& wanted) {
    const size_t equals = wanted.find('=');
    const std::string key = wanted.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : wanted.substr(equals + 1);
    for (const Json& fixed_ip : fixed_ips.as_array()) {
        if (key == "ip_address_substr") {
            if (fixed_ip.string_or("ip_address").find(value) != std::string::npos) {
                return true;
            }
        } else if (fixed_ip.string_or(key, "\n") == value) {
            return true;
        }
    }
    return false;
}

bool matches_one(const std::string& name, const Json* value, const std::string& wanted) {
    if (value == nullptr) {
        return false;
    }
    if (name == "fixed_ips" && value->is_array()) {
        return fixed_ip_matches(*value, wanted);
    }
    if (value->is_array()) {
        const auto& items = value->as_array();
        return std::any_of(items.begin(), items.end(),
                           [&](const Json& item) { return scalar_matches(item, wanted); });
    }
    return scalar_matches(*value, wanted);
}

std::vector<std::string> split_commas(const std::string& text) {
    std::vector<std::string> parts;
    size_t start = 0;
    while (start <= text.size()) {
        const size_t comma = std::min(text.find(',', start), text.size());
        parts.push_back(text.substr(start, comma - start));
        start = comma + 1;
    }
    return parts;
}

// tags: all of them; tags-any: one of them; not-*: the opposite.
bool tags_match(const Json& item, std::string_view name, const std::string& wanted) {
    const bool negated = name.starts_with("not-");
    const bool any = name.ends_with("-any");
    const Json* tags = item.find("tags");
    size_t present = 0;
    const auto names = split_commas(wanted);
    for (const std::string& tag : names) {
        present += tags != nullptr && matches_one("tags", tags, tag) ? 1 : 0;
    }
    return (any ? present > 0 : present == names.size()) != negated;
}

bool is_tag_filter(std::string_view name) {
    return name == "tags" || name == "tags-any" || name == "not-tags" || name == "not-tags-any";
}

// Fixed-address filters of one request must all hold, other repeated filters are alternatives.
bool item_matches(const Json& item,
                  const std::map<std::string, std::vector<std::string>>& filters) {
    for (const auto& [name, wanted] : filters) {
        const auto holds = [&, &filter = name](const std::string& value) {
            return is_tag_filter(filter) ? tags_match(item, filter, value)
                                         : matches_one(filter, item.find(filter), value);
        };
        const bool all = name == "fixed_ips" || is_tag_filter(name);
        if (all ? !std::all_of(wanted.begin(), wanted.end(), holds)
                : std::none_of(wanted.begin(), wanted.end(), holds)) {
            return false;
        }
    }
    return true;
}

Result<std::map<std::string, std::vector<std::string>>> filters_of(const Collection& collection,
                                                                   const Request& request) {
    std::map<std::string, std::vector<std::string>> filters;
    for (const auto& [name, value] : request.query) {
        if (kControls.contains(name)) {
            continue;
        }
        if (!known(collection, name) && !is_tag_filter(name)) {
            return Error::invalid(
                       "Invalid input for operation: ['{}'] is invalid attribute for "
                       "filtering.",
                       name)
                .with_fault("InvalidInput");
        }
        filters[name].push_back(value);
    }
    return filters;
}

struct SortKey {
    std::string name;
    bool descending = false;
};

Result<std::vector<SortKey>> sort_keys(const Collection& collection, const Request& request) {
    std::vector<SortKey> keys;
    const auto directions = request.query.all("sort_dir");
    for (const std::string& name : request.query.all("sort_key")) {
        if (!known(collection, name)) {
            return bad_request("'" + name + "' is an invalid attribute for sort key");
        }
        const std::string direction =
            keys.size() < directions.size() ? directions[keys.size()] : "asc";
        if (direction != "asc" && direction != "desc") {
            return bad_request("'" + direction + "' is an invalid sort direction: asc or desc");
        }
        keys.push_back({name, direction == "desc"});
    }
    if (!directions.empty() && directions.size() != keys.size()) {
        return bad_request("The number of sort_keys and sort_dirs must be same");
    }
    return keys;
}

int compare(const Json* left, const Json* right) {
    if (left == nullptr || right == nullptr) {
        return static_cast<int>(left != nullptr) - static_cast<int>(right != nullptr);
    }
    if (left->is_number() && right->is_number()) {
        const double difference = left->as_double() - right->as_double();
        return difference < 0 ? -1 : static_cast<int>(difference > 0);
    }
    const std::string left_text = left->is_string() ? left->as_string() : left->dump();
    const std::string right_text = right->is_string() ? right->as_string() : right->dump();
    return left_text.compare(right_text);
}

void sort_items(std::vector<Json>& items, const std::vector<SortKey>& keys) {
    std::stable_sort(items.begin(), items.end(), [&](const Json& left, const Json& right) {
        for (const SortKey& key : keys) {
            const int order = compare(left.find(key.name), right.find(key.name));
            if (order != 0) {
                return key.descending ? order > 0 : order < 0;
            }
        }
        return false;
    });
}

Result<size_t> limit_of(const Request& request) {
    const auto text = request.query.first("limit");
    if (!text) {
        return SIZE_MAX;
    }
    size_t limit = 0;
    const auto [end, failure] = std::from_chars(text->data(), text->data() + text->size(), limit);
    if (failure != std::errc() || end != text->data() + text->size()) {
        return bad_request("Limit must be an integer 0 or greater and not '" + *text + "'");
    }
    return limit == 0 ? SIZE_MAX : std::min(limit, kPageSizeMax);
}

Json page_link(const Collection& collection, const Request& request, std::string_view rel,
               const Json& item) {
    QueryMap query = request.query;
    query.set("marker", item.string_or("id"));
    if (rel == "previous") {
        query.set("page_reverse", "True");
    } else {
        query.erase("page_reverse");
    }
    (void)collection;
    return Json::object(
        {{"rel", rel}, {"href", request.base_url() + request.path + "?" + query.encode()}});
}

// Cuts the page out of the items and returns its links.
Result<Json> cut_page(const Collection& collection, const Request& request,
                      std::vector<Json>& items) {
    const size_t limit = TRY(limit_of(request));
    const bool reverse = lower_case(request.query.first_or("page_reverse")) == "true";
    size_t first = 0;
    size_t last = items.size();
    if (const auto marker = request.query.first("marker"); marker && !marker->empty()) {
        const auto found = std::find_if(items.begin(), items.end(), [&](const Json& item) {
            return item.string_or("id") == *marker;
        });
        if (found == items.end()) {
            return bad_request(collection.singular + " marker '" + *marker + "' not found");
        }
        const auto position = static_cast<size_t>(found - items.begin());
        (reverse ? last : first) = reverse ? position : position + 1;
    }
    if (last - first > limit) {
        (reverse ? first : last) = reverse ? last - limit : first + limit;
    }
    Json links = Json::array();
    if (limit != SIZE_MAX && first < last) {
        if (last < items.size()) {
            links.push_back(page_link(collection, request, "next", items[last - 1]));
        }
        if (first > 0) {
            links.push_back(page_link(collection, request, "previous", items[first]));
        }
    }
    items = std::vector<Json>(std::make_move_iterator(items.begin() + static_cast<long>(first)),
                              std::make_move_iterator(items.begin() + static_cast<long>(last)));
    return links;
}

Json select_fields(const Request& request, Json item) {
    const auto fields = request.query.all("fields");
    if (fields.empty()) {
        return item;
    }
    Json selected = Json::object();
    for (const std::string& name : fields) {
        if (const Json* value = item.find(name)) {
            selected.set(name, *value);
        }
    }
    return selected;
}

}  // namespace

std::vector<std::string> filter_values(const Request& request, std::string_view name) {
    return request.query.all(name);
}

Result<Reply> list_reply(const Collection& collection, const Request& request,
                         std::vector<Json> items) {
    const auto filters = TRY(filters_of(collection, request));
    std::erase_if(items, [&](const Json& item) { return !item_matches(item, filters); });
    sort_items(items, TRY(sort_keys(collection, request)));
    Json links = TRY(cut_page(collection, request, items));
    Json::Array selected;
    for (Json& item : items) {
        selected.push_back(select_fields(request, std::move(item)));
    }
    Json body = Json::object();
    body.set(collection.plural, Json(std::move(selected)));
    if (links.size() != 0) {
        body.set(collection.plural + "_links", std::move(links));
    }
    return Reply::json(body);
}

Reply show_reply(const Collection& collection, const Request& request, Json item, int status) {
    Json body = Json::object();
    body.set(collection.singular, select_fields(request, std::move(item)));
    return Reply::json(body, status);
}

Result<CreateBodies> create_bodies(const Collection& collection, const Request& request) {
    const Json body = TRY(request.json());
    CreateBodies bodies;
    if (const Json* many = body.find(collection.plural); many != nullptr && many->is_array()) {
        bodies.bulk = true;
        bodies.items = many->as_array();
    } else if (const Json* one = body.find(collection.singular);
               one != nullptr && one->is_object()) {
        bodies.items = {*one};
    } else {
        return bad_request("Unable to find '" + collection.singular + "' in request body");
    }
    if (bodies.items.empty() || bodies.items.size() > kBulkCountMax) {
        return bad_request(fmt::format("A bulk request has 1 to {} {}, this one has {}",
                                       kBulkCountMax, collection.plural, bodies.items.size()));
    }
    for (const Json& item : bodies.items) {
        if (!item.is_object()) {
            return bad_request("Each of '" + collection.plural + "' must be an object");
        }
    }
    return bodies;
}

Result<Json> update_body(const Collection& collection, const Request& request) {
    const Json body = TRY(request.json());
    const Json* one = body.find(collection.singular);
    if (one == nullptr || !one->is_object()) {
        return bad_request("Unable to find '" + collection.singular + "' in request body");
    }
    return *one;
}

Reply create_reply(const Collection& collection, bool bulk, std::vector<Json> items) {
    Json body = Json::object();
    if (bulk) {
        body.set(collection.plural, Json(Json::Array(std::move(items))));
    } else {
        body.set(collection.singular, std::move(items.front()));
    }
    return Reply::json(body, 201);
}

}  // namespace kumoi::api
