#include "api/rest/image/image_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>

#include "api/rest/image/image_view.h"
#include "base/clock.h"

namespace kumoi::api {
namespace {

using compute::Image;
using compute::ImageStore;
using Predicate = std::function<bool(const Image& image)>;

struct SortKey {
    std::string name;
    bool descending = true;
};

// ---- filters ----

std::optional<std::string> text_of(const Image& image, std::string_view key) {
    if (key == "name") {
        return image.name;
    }
    if (key == "id") {
        return image.id;
    }
    if (key == "status") {
        return image.status;
    }
    if (key == "owner") {
        return image.owner;
    }
    if (key == "disk_format") {
        return image.disk_format;
    }
    if (key == "container_format") {
        return image.container_format;
    }
    if (key == "checksum") {
        return image.checksum;
    }
    if (key == "os_hash_algo") {
        return image.os_hash_algo;
    }
    if (key == "os_hash_value") {
        return image.os_hash_value;
    }
    const auto property = image.properties.find(std::string(key));
    return property == image.properties.end() ? std::nullopt : std::optional(property->second);
}

// "in:a,b,\"c,d\"" as Glance: a list, quoted members may hold commas.
Result<std::vector<std::string>> split_list(std::string_view text) {
    std::vector<std::string> members(1);
    bool quoted = false;
    for (const char character : text) {
        if (character == '"') {
            quoted = !quoted;
        } else if (character == ',' && !quoted) {
            members.emplace_back();
        } else {
            members.back() += character;
        }
    }
    if (quoted) {
        return Error::invalid("Invalid filter value in:{}. The quote is not closed.", text);
    }
    return members;
}

Result<Predicate> text_filter(const std::string& key, const std::string& value) {
    const bool takes_list = key == "name" || key == "id" || key == "status" ||
                            key == "disk_format" || key == "container_format";
    if (takes_list && value.starts_with("in:")) {
        auto members = TRY(split_list(std::string_view(value).substr(3)));
        return Predicate([key, members = std::move(members)](const Image& image) {
            const auto text = text_of(image, key);
            return text && std::find(members.begin(), members.end(), *text) != members.end();
        });
    }
    return Predicate([key, value](const Image& image) { return text_of(image, key) == value; });
}

Result<int64_t> parse_number(std::string_view key, std::string_view value) {
    int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || number < 0) {
        return Error::invalid("{} filter must be a number of 0 or more, not '{}'", key, value);
    }
    return number;
}

Result<bool> parse_bool(std::string_view key, std::string_view value) {
    const std::string lowered = lower_case(value);
    if (lowered == "true" || lowered == "false") {
        return lowered == "true";
    }
    return Error::invalid(
        "Invalid value '{}' for '{}' filter. Valid values are case sensitive "
        "'true' or 'false'.",
        value, key);
}

// "gt:2026-11-23T00:00:00Z"; without operator it means equal.
Result<Predicate> time_filter(std::string_view key, std::string_view value) {
    std::string_view operation = "eq";
    const size_t colon = value.find(':');
    if (colon != std::string_view::npos && colon <= 3 && value.substr(0, colon) != "") {
        operation = value.substr(0, colon);
        value.remove_prefix(colon + 1);
    }
    const auto wanted_ns = parse_iso8601(value);
    const bool known = operation == "gt" || operation == "gte" || operation == "lt" ||
                       operation == "lte" || operation == "eq" || operation == "neq";
    if (!wanted_ns || !known) {
        return Error::invalid(
            "Invalid filter {}: expected gt:, gte:, lt:, lte:, eq: or neq: and a "
            "time such as 2026-11-23T19:54:07Z",
            key);
    }
    const bool created = key == "created_at";
    return Predicate([operation = std::string(operation), created,
                      wanted_s = *wanted_ns / kNanosPerSecond](const Image& image) {
        const int64_t at_s = (created ? image.created_ns : image.updated_ns) / kNanosPerSecond;
        return operation == "gt"    ? at_s > wanted_s
               : operation == "gte" ? at_s >= wanted_s
               : operation == "lt"  ? at_s < wanted_s
               : operation == "lte" ? at_s <= wanted_s
               : operation == "eq"  ? at_s == wanted_s
                                    : at_s != wanted_s;
    });
}

Result<Predicate> number_filter(const std::string& key, const std::string& value) {
    const int64_t wanted = TRY(parse_number(key, value));
    if (key == "size_min") {
        return Predicate([wanted](const Image& image) {
            return image.size && *image.size >= static_cast<uint64_t>(wanted);
        });
    }
    if (key == "size_max") {
        return Predicate([wanted](const Image& image) {
            return image.size && *image.size <= static_cast<uint64_t>(wanted);
        });
    }
    if (key == "min_ram") {
        return Predicate([wanted](const Image& image) { return image.min_ram_mb == wanted; });
    }
    return Predicate([wanted](const Image& image) { return image.min_disk_gb == wanted; });
}

Result<Predicate> make_filter(const std::string& key, const std::string& value) {
    if (key == "size_min" || key == "size_max" || key == "min_ram" || key == "min_disk") {
        return number_filter(key, value);
    }
    if (key == "created_at" || key == "updated_at") {
        return time_filter(key, value);
    }
    if (key == "tag") {
        return Predicate([value](const Image& image) { return image.tags.contains(value); });
    }
    if (key == "protected") {
        const bool wanted = TRY(parse_bool(key, value));
        return Predicate([wanted](const Image& image) { return image.is_protected == wanted; });
    }
    return text_filter(key, value);
}

// ---- who sees what in a list ----

Result<void> check_choice(std::string_view value, std::initializer_list<std::string_view> allowed) {
    if (std::find(allowed.begin(), allowed.end(), value) == allowed.end()) {
        return Error::invalid("Invalid value '{}' for a filter: allowed are {}", value,
                              fmt::join(allowed, " "));
    }
    return {};
}

Result<Predicate> visibility_filter(const ImageStore& store, const AuthContext& who,
                                    const QueryMap& query) {
    const std::string visibility = query.first_or("visibility");
    const std::string member_status = query.first_or("member_status", "accepted");
    TRY(check_choice(visibility, {"", "public", "private", "shared", "community", "all"}));
    TRY(check_choice(member_status, {"accepted", "pending", "rejected", "all"}));
    return Predicate([&store, visibility, member_status, project = who.project_id,
                      admin = who.is_admin](const Image& image) {
        if (!visibility.empty() && visibility != "all" && image.visibility != visibility) {
            return false;
        }
        const bool own = !project.empty() && image.owner == project;
        if (own || image.visibility == "public") {
            return true;
        }
        if (image.visibility == "community") {
            return !visibility.empty();  // only when asked for: there may be many
        }
        if (admin) {
            return true;
        }
        const auto member = image.visibility == "shared" && !project.empty()
                                ? store.member(image.id, project)
                                : std::nullopt;
        return member && (member_status == "all" || member->status == member_status);
    });
}

bool is_paging_key(std::string_view key) {
    for (const std::string_view name : {"limit", "marker", "sort", "sort_key", "sort_dir",
                                        "visibility", "member_status", "os_hidden"}) {
        if (key == name) {
            return true;
        }
    }
    return false;
}

Result<std::vector<Predicate>> make_filters(const ImageStore& store, const AuthContext& who,
                                            const QueryMap& query) {
    std::vector<Predicate> filters;
    filters.push_back(TRY(visibility_filter(store, who, query)));
    const bool hidden = TRY(parse_bool("os_hidden", query.first_or("os_hidden", "false")));
    filters.emplace_back([hidden](const Image& image) { return image.os_hidden == hidden; });
    for (const auto& [key, value] : query) {
        if (!is_paging_key(key)) {
            filters.push_back(TRY(make_filter(key, value)));
        }
    }
    return filters;
}

// ---- order ----

Result<SortKey> make_sort_key(std::string_view name, std::string_view direction) {
    constexpr std::string_view kKeys[] = {"name", "status", "container_format", "disk_format",
                                          "size", "id",     "created_at",       "updated_at"};
    if (std::find(std::begin(kKeys), std::end(kKeys), name) == std::end(kKeys)) {
        return Error::invalid("Invalid sort key: {}. It must be one of: {}.", name,
                              fmt::join(kKeys, ", "));
    }
    if (direction != "asc" && direction != "desc") {
        return Error::invalid("Invalid sort direction: {}. It must be one of: asc, desc.",
                              direction);
    }
    return SortKey{std::string(name), direction == "desc"};
}

// sort=name:asc,size, or sort_key=name&sort_dir=asc, repeated.
Result<std::vector<SortKey>> sort_keys(const QueryMap& query) {
    std::vector<SortKey> keys;
    const auto names = query.all("sort_key");
    const auto directions = query.all("sort_dir");
    if (query.has("sort") && (!names.empty() || !directions.empty())) {
        return Error::invalid("Old and new sorting syntax cannot be combined");
    }
    if (directions.size() > 1 && directions.size() != names.size()) {
        return Error::invalid("Number of sort dirs does not match the number of sort keys");
    }
    for (size_t index = 0; index < names.size(); ++index) {
        const std::string direction = directions.size() > 1    ? directions[index]
                                      : directions.size() == 1 ? directions[0]
                                                               : "desc";
        keys.push_back(TRY(make_sort_key(names[index], direction)));
    }
    const std::string sort = query.first_or("sort");
    for (std::string_view rest = sort; !rest.empty();) {
        const std::string_view item = trim(rest.substr(0, rest.find(',')));
        rest = rest.find(',') == std::string_view::npos ? "" : rest.substr(rest.find(',') + 1);
        const size_t colon = item.find(':');
        keys.push_back(
            TRY(make_sort_key(item.substr(0, colon),
                              colon == std::string_view::npos ? "desc" : item.substr(colon + 1))));
    }
    const bool has_created = std::any_of(
        keys.begin(), keys.end(), [](const SortKey& key) { return key.name == "created_at"; });
    if (!has_created) {
        keys.push_back({"created_at", !keys.empty()
                                          ? keys.front().descending
                                          : directions.empty() || directions[0] == "desc"});
    }
    keys.push_back({"id", keys.front().descending});  // makes the order total, so markers work
    return keys;
}

int compare_by(const Image& left, const Image& right, const std::string& key) {
    const auto three_way = [](const auto& a, const auto& b) { return a < b ? -1 : b < a ? 1 : 0; };
    if (key == "size") {
        return three_way(left.size, right.size);
    }
    if (key == "created_at") {
        return three_way(left.created_ns, right.created_ns);
    }
    if (key == "updated_at") {
        return three_way(left.updated_ns, right.updated_ns);
    }
    return three_way(text_of(left, key), text_of(right, key));
}

void sort_images(std::vector<Image>& images, const std::vector<SortKey>& keys) {
    std::sort(images.begin(), images.end(), [&](const Image& left, const Image& right) {
        for (const SortKey& key : keys) {
            const int order = compare_by(left, right, key.name);
            if (order != 0) {
                return key.descending ? order > 0 : order < 0;
            }
        }
        return false;
    });
}

Result<int64_t> page_limit(const QueryMap& query) {
    const auto text = query.first("limit");
    if (!text) {
        return kImagePageDefault;
    }
    return std::min(TRY(parse_number("limit", *text)), kImagePageMax);
}

Result<size_t> page_start(const std::vector<Image>& images, const QueryMap& query) {
    const auto marker = query.first("marker");
    if (!marker) {
        return size_t{0};
    }
    for (size_t index = 0; index < images.size(); ++index) {
        if (images[index].id == *marker) {
            return index + 1;
        }
    }
    return Error::invalid("Invalid marker. Image {} could not be found.", *marker);
}

std::string page_link(QueryMap query, const std::string& marker) {
    query.erase("marker");
    if (!marker.empty()) {
        query.add("marker", marker);
    }
    const std::string encoded = query.encode();
    return encoded.empty() ? "/v2/images" : "/v2/images?" + encoded;
}

}  // namespace

Result<Json> list_images(const ImageStore& store, const AuthContext& who, const QueryMap& query) {
    const std::vector<Predicate> filters = TRY(make_filters(store, who, query));
    const std::vector<SortKey> keys = TRY(sort_keys(query));
    const auto limit = static_cast<size_t>(TRY(page_limit(query)));
    std::vector<Image> images = store.list();
    std::erase_if(images, [&](const Image& image) {
        return !std::all_of(filters.begin(), filters.end(),
                            [&](const Predicate& passes) { return passes(image); });
    });
    sort_images(images, keys);
    const size_t start = TRY(page_start(images, query));
    const size_t end = start + std::min(limit, images.size() - start);
    Json page = Json::array();
    for (size_t index = start; index < end; ++index) {
        page.push_back(show_image(images[index]));
    }
    Json answer = Json::object({{"images", std::move(page)},
                                {"first", page_link(query, "")},
                                {"schema", "/v2/schemas/images"}});
    if (end < images.size() && end > start) {
        answer.set("next", page_link(query, images[end - 1].id));
    }
    return answer;
}

}  // namespace kumoi::api
