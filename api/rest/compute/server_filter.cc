#include "api/rest/compute/server_filter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <set>

#include "api/rest/compute/server_view.h"
#include "compute/instance_properties.h"
#include "compute/vm_states.h"

namespace kumoi::api {
namespace {

using compute::Instance;
using Test = ServerFilter::Test;

constexpr size_t kPatternMax = 255;          // bytes
constexpr uint32_t kMatchStepsMax = 20'000;  // a hostile pattern stops within a millisecond
constexpr uint32_t kMatchHeapKib = 256;

// Filters everybody may use; the rest is for administrators, or for all from 2.83 on.
constexpr std::array<std::string_view, 12> kUserFilters = {
    "reservation_id", "name", "status",   "image",    "flavor",       "ip",
    "changes-since",  "tags", "tags-any", "not-tags", "not-tags-any", "changes-before"};
constexpr std::array<std::string_view, 11> kUserFiltersLater = {
    "availability_zone", "config_drive", "key_name", "created_at", "launched_at", "terminated_at",
    "power_state",       "task_state",   "vm_state", "progress",   "user_id"};
// Compared for equality with the field of that name.
constexpr std::array<std::string_view, 24> kEqualityFilters = {
    "reservation_id",    "uuid",         "host",          "node",
    "hostname",          "vm_state",     "task_state",    "power_state",
    "project_id",        "tenant_id",    "user_id",       "key_name",
    "config_drive",      "created_at",   "launched_at",   "terminated_at",
    "availability_zone", "progress",     "launch_index",  "description",
    "access_ip_v4",      "access_ip_v6", "instance_name", "root_device_name"};
// Known to Nova, without meaning here.
constexpr std::array<std::string_view, 16> kIgnored = {
    "limit",    "marker",          "sort_key",        "sort_dir",   "all_tenants",
    "deleted",  "soft_deleted",    "kernel_id",       "ramdisk_id", "auto_disk_config",
    "metadata", "system_metadata", "security_groups", "info_cache", "block_device_mapping",
    "services"};

template <class Names>
bool contains(const Names& names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

bool truthy(std::string_view text) {
    return text == "1" || text == "True" || text == "true" || text == "TRUE" || text == "yes" ||
           text == "on" || text == "t" || text == "y";
}

std::vector<std::string> split_tags(const std::string& text) {
    std::vector<std::string> tags;
    size_t start = 0;
    while (start <= text.size()) {
        const size_t comma = std::min(text.find(',', start), text.size());
        if (comma > start) {
            tags.push_back(text.substr(start, comma - start));
        }
        start = comma + 1;
    }
    return tags;
}

Test tag_test(const std::string& text, bool all, bool wanted) {
    return [tags = split_tags(text), all, wanted](const Instance& instance) {
        const auto has = [&](const std::string& tag) { return contains(instance.tags, tag); };
        const bool found = all ? std::all_of(tags.begin(), tags.end(), has)
                               : std::any_of(tags.begin(), tags.end(), has);
        return found == wanted;
    };
}

Result<Test> address_test(const std::string& pattern, int version) {
    const SafeRegex regex = TRY(SafeRegex::compile(pattern));
    return Test([regex, version](const Instance& instance) {
        for (const compute::VifInfo& vif : instance.network_info) {
            for (const compute::FixedIp& ip : vif.fixed_ips) {
                if (ip.ip_version == version && regex.matches(ip.address)) {
                    return true;
                }
            }
        }
        return false;
    });
}

Result<int64_t> time_of(std::string_view name, const std::string& text) {
    const auto time = parse_iso8601(text);
    if (!time) {
        return Error::invalid("Invalid filter field: {}. '{}' is not a 'date-time'", name, text);
    }
    return *time;
}

Result<Test> status_test(const Call& call, const std::vector<std::string>& values) {
    std::set<std::string> wanted;
    for (std::string value : values) {
        std::transform(value.begin(), value.end(), value.begin(),
                       [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
        wanted.insert(value);
    }
    static const std::set<std::string> known = {
        "ACTIVE",       "BUILD",   "SHUTOFF",           "PAUSED",        "SUSPENDED",
        "RESCUE",       "RESIZE",  "VERIFY_RESIZE",     "ERROR",         "DELETED",
        "SOFT_DELETED", "SHELVED", "SHELVED_OFFLOADED", "REBOOT",        "HARD_REBOOT",
        "PASSWORD",     "REBUILD", "MIGRATING",         "REVERT_RESIZE", "UNKNOWN"};
    const bool any_known = std::any_of(wanted.begin(), wanted.end(),
                                       [](const auto& value) { return known.contains(value); });
    if (!any_known && call.at_least(38)) {
        return Error::invalid("Invalid status value");
    }
    return Test(
        [wanted](const Instance& instance) { return wanted.contains(server_status(instance)); });
}

Result<std::optional<Test>> named_test(const Call& call, std::string_view name,
                                       const std::string& value) {
    if (name == "name") {
        const SafeRegex regex = TRY(SafeRegex::compile(value));
        return std::optional<Test>(
            [regex](const Instance& instance) { return regex.matches(instance.display_name); });
    }
    if (name == "status") {
        return std::optional(TRY(status_test(call, call.request.query.all("status"))));
    }
    if (name == "image") {
        return std::optional<Test>(
            [value](const Instance& instance) { return instance.image_id == value; });
    }
    if (name == "flavor") {
        return std::optional<Test>(
            [value](const Instance& instance) { return instance.flavor.flavor_id == value; });
    }
    if (name == "ip" || (name == "ip6" && (call.at_least(5) || call.who.is_admin))) {
        return std::optional(TRY(address_test(value, name == "ip" ? 4 : 6)));
    }
    if (name == "changes-since" || (name == "changes-before" && call.at_least(66))) {
        const bool since = name == "changes-since";
        const int64_t time = TRY(time_of(name, value));
        return std::optional<Test>([time, since](const Instance& instance) {
            return since ? instance.updated_ns >= time : instance.updated_ns <= time;
        });
    }
    if (call.at_least(26) &&
        (name == "tags" || name == "tags-any" || name == "not-tags" || name == "not-tags-any")) {
        return std::optional(tag_test(value, !name.ends_with("-any"), !name.starts_with("not-")));
    }
    if (name == "locked" && call.at_least(73)) {
        return std::optional<Test>([wanted = truthy(value)](const Instance& instance) {
            return instance.locked == wanted;
        });
    }
    if (contains(kEqualityFilters, name)) {
        return std::optional<Test>([field = std::string(name), value](const Instance& instance) {
            return server_field(instance, field).value_or("") == value;
        });
    }
    return std::optional<Test>();
}

bool may_use(const Call& call, std::string_view name) {
    if (call.allows("os_compute_api:servers:allow_all_filters")) {
        return true;
    }
    return contains(kUserFilters, name) || (name == "ip6" && call.at_least(5)) ||
           (name == "locked" && call.at_least(73)) ||
           (call.at_least(83) && contains(kUserFiltersLater, name));
}

Result<void> parse_scope(const Call& call, bool detail, ServerFilter& filter) {
    const QueryMap& query = call.request.query;
    filter.project_id = call.who.project_id;
    const auto project =
        query.first("project_id") ? query.first("project_id") : query.first("tenant_id");
    if (const auto all = query.first("all_tenants"); all && (all->empty() || truthy(*all))) {
        TRY(call.authorize(detail ? "os_compute_api:servers:detail:get_all_tenants"
                                  : "os_compute_api:servers:index:get_all_tenants"));
        filter.all_projects = true;
    } else if (all && *all != "0" && *all != "False" && *all != "false") {
        return Error::invalid("Invalid value '{}' for all_tenants", *all);
    }
    if (project && call.who.is_admin) {
        filter.all_projects = false;
        filter.project_id = *project;
    }
    if (const auto deleted = query.first("deleted"); deleted && truthy(*deleted)) {
        filter.deleted_only = call.who.is_admin;  // ignored for the others, as in Nova
    }
    filter.soft_deleted_too = query.first("vm_state") == compute::vm_states::kSoftDeleted;
    for (const std::string& status : query.all("status")) {
        filter.soft_deleted_too |= equal_ignoring_case(status, "soft_deleted");
        if (equal_ignoring_case(status, "deleted")) {
            if (!call.who.is_admin) {
                return Error::forbidden("Only administrators may list deleted instances");
            }
            filter.deleted_only = true;
        }
    }
    if (const auto since = query.first("changes-since")) {
        filter.deleted_too = true;
        filter.soft_deleted_too = true;
        filter.deleted_since_ns = TRY(time_of("changes-since", *since));
    }
    return {};
}

Result<void> parse_sort(const Call& call, ServerFilter& filter) {
    const auto keys = call.request.query.all("sort_key");
    const auto directions = call.request.query.all("sort_dir");
    if (directions.size() > std::max<size_t>(keys.size(), 1)) {
        return Error::invalid("Sort direction array size exceeds sort key array size.");
    }
    for (size_t index = 0; index < keys.size(); ++index) {
        const std::string& key = keys[index];
        if (!server_field({}, key)) {
            return Error::invalid(
                "Invalid input for query parameters sort_key. Value: {}. It is not a field servers "
                "can be sorted by.",
                key);
        }
        if ((key == "host" || key == "node") && !call.who.is_admin) {
            return Error::forbidden("Only administrators can sort servers by {}", key);
        }
        const std::string direction = index < directions.size() ? directions[index] : "desc";
        if (direction != "asc" && direction != "desc") {
            return Error::invalid(
                "Invalid input for query parameters sort_dir. Value: {}. It is not "
                "one of ['asc', 'desc']",
                direction);
        }
        filter.sort.emplace_back(key, direction == "asc");
    }
    return {};
}

}  // namespace

Result<SafeRegex> SafeRegex::compile(const std::string& pattern) {
    if (pattern.size() > kPatternMax) {
        return Error::invalid("The pattern is {} bytes long, at most {} are allowed.",
                              pattern.size(), kPatternMax);
    }
    int error = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                     PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
    if (code == nullptr) {
        return Error::invalid("'{}' is not a 'regex': error at position {}", pattern, offset);
    }
    return SafeRegex(std::shared_ptr<const void>(code, [](const void* p) {
        pcre2_code_free(const_cast<pcre2_code*>(static_cast<const pcre2_code*>(p)));
    }));
}

bool SafeRegex::matches(const std::string& text) const {
    const auto* code = static_cast<const pcre2_code*>(code_.get());
    pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
    pcre2_match_context* context = pcre2_match_context_create(nullptr);
    pcre2_set_match_limit(context, kMatchStepsMax);
    pcre2_set_heap_limit(context, kMatchHeapKib);
    const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                                  0, data, context);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    return found >= 0;
}

bool ServerFilter::matches(const Instance& instance) const {
    return std::all_of(tests.begin(), tests.end(),
                       [&](const Test& test) { return test(instance); });
}

Result<ServerFilter> parse_server_filter(const Call& call, bool detail) {
    ServerFilter filter;
    TRY(parse_scope(call, detail, filter));
    TRY(parse_sort(call, filter));
    std::set<std::string> seen;
    for (const auto& [name, value] : call.request.query) {
        if (contains(kIgnored, name) || name == "project_id" || name == "tenant_id" ||
            !seen.insert(name).second) {
            continue;
        }
        const auto test = TRY(named_test(call, name, value));
        if (!test) {
            if (call.at_least(75)) {
                return Error::invalid(
                    "Invalid input for query parameters {}. Value: {}. Additional properties are "
                    "not allowed ('{}' was unexpected)",
                    name, value, name);
            }
            continue;
        }
        if (name == "status" && filter.deleted_only) {
            continue;
        }
        if (may_use(call, name)) {
            filter.tests.push_back(*test);
        }
    }
    return filter;
}

namespace {

// Times and numbers are zero padded, so that text order is their order.
std::string padded(int64_t value) {
    return fmt::format("{:020}", value);
}

struct ServerField {
    std::string_view name;
    std::string (*text)(const Instance& server);
};

constexpr ServerField kServerFields[] = {
    {"uuid", [](const Instance& server) -> std::string { return server.uuid; }},
    {"display_name", [](const Instance& server) -> std::string { return server.display_name; }},
    {"name", [](const Instance& server) -> std::string { return server.display_name; }},
    {"created_at",
     [](const Instance& server) -> std::string { return iso8601(server.created_ns); }},
    {"updated_at",
     [](const Instance& server) -> std::string { return iso8601(server.updated_ns); }},
    {"launched_at",
     [](const Instance& server) -> std::string { return iso8601(server.launched_ns); }},
    {"terminated_at",
     [](const Instance& server) -> std::string { return iso8601(server.terminated_ns); }},
    {"host", [](const Instance& server) -> std::string { return server.host; }},
    {"node", [](const Instance& server) -> std::string { return server.node; }},
    {"hostname", [](const Instance& server) -> std::string { return server.hostname; }},
    {"vm_state", [](const Instance& server) -> std::string { return server.vm_state; }},
    {"task_state",
     [](const Instance& server) -> std::string { return server.task_state.value_or(""); }},
    {"power_state",
     [](const Instance& server) -> std::string { return std::to_string(server.power_state); }},
    {"project_id", [](const Instance& server) -> std::string { return server.project_id; }},
    {"tenant_id", [](const Instance& server) -> std::string { return server.project_id; }},
    {"user_id", [](const Instance& server) -> std::string { return server.user_id; }},
    {"key_name", [](const Instance& server) -> std::string { return server.key_name; }},
    {"config_drive",
     [](const Instance& server) -> std::string {
         return std::string(server.config_drive ? "True" : "");
     }},
    {"availability_zone",
     [](const Instance& server) -> std::string { return server.availability_zone; }},
    {"progress",
     [](const Instance& server) -> std::string { return std::to_string(server.progress); }},
    {"launch_index",
     [](const Instance& server) -> std::string { return std::to_string(server.launch_index); }},
    {"display_description",
     [](const Instance& server) -> std::string { return server.display_description.value_or(""); }},
    {"description",
     [](const Instance& server) -> std::string { return server.display_description.value_or(""); }},
    {"access_ip_v4", [](const Instance& server) -> std::string { return server.access_ip_v4; }},
    {"access_ip_v6", [](const Instance& server) -> std::string { return server.access_ip_v6; }},
    {"image_ref", [](const Instance& server) -> std::string { return server.image_id; }},
    {"instance_type_id",
     [](const Instance& server) -> std::string { return server.flavor.flavor_id; }},
    {"reservation_id", [](const Instance& server) -> std::string { return server.reservation_id; }},
    {"instance_name",
     [](const Instance& server) -> std::string {
         return fmt::format("instance-{:08x}", server.id);
     }},
    {"root_device_name", [](const Instance& server) { return compute::root_device_name(server); }},
    {"locked",
     [](const Instance& server) -> std::string { return std::string(server.locked ? "1" : "0"); }},
    {"memory_mb",
     [](const Instance& server) -> std::string { return padded(server.flavor.memory_mb); }},
    {"vcpus", [](const Instance& server) -> std::string { return padded(server.flavor.vcpus); }},
    {"root_gb",
     [](const Instance& server) -> std::string { return padded(server.flavor.root_gb); }},
};

}  // namespace

std::optional<std::string> server_field(const Instance& instance, std::string_view field) {
    for (const ServerField& known : kServerFields) {
        if (known.name == field) {
            return known.text(instance);
        }
    }
    return std::nullopt;
}

}  // namespace kumoi::api
