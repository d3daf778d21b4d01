// Hypervisors: the compute nodes, what they have and what is claimed on them. Used amounts are the
// claims of servers, not a node's own measurement, so they add up at any instant.
#include <algorithm>

#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"

namespace kumoi::api {
namespace {

using compute::ComputeNodeRecord;
using compute::HostClaims;

Json id_of(const Call& call, const ComputeNodeRecord& record) {
    return call.at_least(53) ? Json(record.node.uuid) : Json(record.id);
}

Json short_view(const Call& call, const ComputeNodeRecord& record) {
    const auto service = call.conductor().services().find_service(record.node.host, "nova-compute");
    return Json::object({{"id", id_of(call, record)},
                         {"hypervisor_hostname", record.node.hypervisor_hostname},
                         {"state", service && service->up ? "up" : "down"},
                         {"status", service && service->disabled ? "disabled" : "enabled"}});
}

Json servers_view(const Call& call, const std::string& host) {
    Json servers = Json::array();
    for (const auto& stored : call.conductor().instances().of_host(host)) {
        servers.push_back(
            Json::object({{"uuid", stored->instance.uuid},
                          {"name", fmt::format("instance-{:08x}", stored->instance.id)}}));
    }
    return servers;
}

// " 20:12:15 up 1 day, 2:03,  1 user,  load average: 0.10, 0.20, 0.15"
Json uptime_text(const Call& call, const compute::ComputeNode& node) {
    const auto uptime = call.conductor().host_uptime(node.host);
    if (!uptime.ok()) {
        return Json();
    }
    const auto seconds = static_cast<int64_t>(*uptime);
    const std::string now = iso8601(call.services.clock.wall_ns()).substr(11, 8);
    const int64_t days = seconds / 86400;
    return Json(fmt::format(" {} up {}{}:{:02},  0 users,  load average: {}", now,
                            days > 0 ? fmt::format("{} day{}, ", days, days == 1 ? "" : "s") : "",
                            seconds / 3600 % 24, seconds / 60 % 60,
                            node.load_average.empty() ? "0.00, 0.00, 0.00" : node.load_average));
}

Json cpu_info(const Call& call, const compute::ComputeNode& node) {
    if (!call.at_least(28)) {
        return Json(node.cpu_info_json);
    }
    auto parsed = Json::parse(node.cpu_info_json);
    return parsed.ok() && parsed->is_object() ? std::move(parsed).value() : Json::object();
}

Json service_part(const Call& call, const compute::ComputeNode& node) {
    const auto service = call.conductor().services().find_service(node.host, "nova-compute");
    if (!service) {
        return Json();
    }
    return Json::object({{"id", call.at_least(53) ? Json(service->uuid) : Json(service->id)},
                         {"host", service->host},
                         {"disabled_reason", service->disabled_reason}});
}

Json full_view(const Call& call, const ComputeNodeRecord& record) {
    const compute::ComputeNode& node = record.node;
    Json view = short_view(call, record);
    view.set("hypervisor_type", node.hypervisor_type);
    view.set("hypervisor_version", node.hypervisor_version);
    view.set("host_ip", node.host_ip);
    view.set("service", service_part(call, node));
    if (call.at_least(88)) {
        view.set("uptime", uptime_text(call, node));
        return view;
    }
    const HostClaims claims = call.conductor().instances().claims(node.host);
    const int64_t memory_used = claims.memory_mb + node.memory_mb_reserved;
    view.set("vcpus", node.vcpus);
    view.set("vcpus_used", claims.vcpus);
    view.set("memory_mb", node.memory_mb);
    view.set("memory_mb_used", memory_used);
    view.set("free_ram_mb", node.memory_mb - memory_used);
    view.set("local_gb", node.local_gb);
    view.set("local_gb_used", claims.disk_gb);
    view.set("free_disk_gb", node.local_gb - claims.disk_gb);
    view.set("disk_available_least", node.disk_available_least_gb);
    view.set("running_vms", claims.servers);
    view.set("current_workload", claims.busy);
    view.set("cpu_info", cpu_info(call, node));
    return view;
}

Result<Reply> list(Call& call, bool detail) {
    std::vector<ComputeNodeRecord> nodes = call.conductor().services().nodes();
    const bool new_query = call.at_least(53);
    if (const auto pattern = call.request.query.first("hypervisor_hostname_pattern");
        new_query && pattern) {
        std::erase_if(nodes, [&](const auto& record) {
            return record.node.hypervisor_hostname.find(*pattern) == std::string::npos;
        });
        if (nodes.empty() && !call.at_least(88)) {
            return Error::not_found("No hypervisor matching '{}' could be found.", *pattern);
        }
    }
    Page page;
    if (call.at_least(33)) {
        page = TRY(page_of(call.request, call.services.osapi_max_limit));
        if (page.marker) {
            const auto marker = std::find_if(nodes.begin(), nodes.end(), [&](const auto& record) {
                return id_of(call, record) == Json(*page.marker) ||
                       std::to_string(record.id) == *page.marker;
            });
            if (marker == nodes.end()) {
                return Error::invalid("marker [{}] not found", *page.marker);
            }
            nodes.erase(nodes.begin(), marker + 1);
        }
    }
    const bool full = call.at_least(33) && !nodes.empty() && nodes.size() >= page.limit;
    nodes.resize(std::min(nodes.size(), page.limit));
    const bool with_servers =
        new_query && equal_ignoring_case(call.request.query.first_or("with_servers"), "true");
    Json views = Json::array();
    for (const ComputeNodeRecord& record : nodes) {
        Json view = detail ? full_view(call, record) : short_view(call, record);
        if (with_servers) {
            view.set("servers", servers_view(call, record.node.host));
        }
        views.push_back(std::move(view));
    }
    Json body = Json::object({{"hypervisors", std::move(views)}});
    if (full) {
        const Json last = id_of(call, nodes.back());
        body.set("hypervisors_links",
                 next_links(
                     call.request,
                     call.versioned_url() + (detail ? "/os-hypervisors/detail" : "/os-hypervisors"),
                     page, last.is_string() ? last.as_string() : last.dump()));
    }
    return Reply::json(body);
}

Result<Reply> list_hypervisors(Call& call) {
    TRY(call.authorize("os_compute_api:os-hypervisors:list"));
    return list(call, false);
}

Result<Reply> list_hypervisor_details(Call& call) {
    TRY(call.authorize("os_compute_api:os-hypervisors:list-detail"));
    return list(call, true);
}

Result<ComputeNodeRecord> find_node(const Call& call) {
    const std::string& id = call.parameter("hypervisor_id");
    for (const ComputeNodeRecord& record : call.conductor().services().nodes()) {
        if (call.at_least(53) ? record.node.uuid == id : std::to_string(record.id) == id) {
            return record;
        }
    }
    return Error::not_found("Hypervisor with ID '{}' could not be found.", id)
        .with_hint(call.at_least(53) ? "From 2.53 on hypervisors are named by uuid." : "");
}

Result<Reply> show_hypervisor(Call& call) {
    TRY(call.authorize("os_compute_api:os-hypervisors:show"));
    const ComputeNodeRecord record = TRY(find_node(call));
    Json view = full_view(call, record);
    if (equal_ignoring_case(call.request.query.first_or("with_servers"), "true") &&
        call.at_least(53)) {
        view.set("servers", servers_view(call, record.node.host));
    }
    return Reply::json(Json::object({{"hypervisor", std::move(view)}}));
}

Result<Reply> show_uptime(Call& call) {
    TRY(call.authorize("os_compute_api:os-hypervisors:uptime"));
    const ComputeNodeRecord record = TRY(find_node(call));
    TRY(call.conductor().host_uptime(record.node.host));
    Json view = short_view(call, record);
    view.set("uptime", uptime_text(call, record.node));
    return Reply::json(Json::object({{"hypervisor", std::move(view)}}));
}

Result<Reply> show_statistics(Call& call) {
    TRY(call.authorize("os_compute_api:os-hypervisors:statistics"));
    std::map<std::string, int64_t> sums;
    const auto nodes = call.conductor().services().nodes();
    for (const ComputeNodeRecord& record : nodes) {
        const compute::ComputeNode& node = record.node;
        const HostClaims claims = call.conductor().instances().claims(node.host);
        const int64_t memory_used = claims.memory_mb + node.memory_mb_reserved;
        sums["vcpus"] += node.vcpus;
        sums["vcpus_used"] += claims.vcpus;
        sums["memory_mb"] += node.memory_mb;
        sums["memory_mb_used"] += memory_used;
        sums["free_ram_mb"] += node.memory_mb - memory_used;
        sums["local_gb"] += node.local_gb;
        sums["local_gb_used"] += claims.disk_gb;
        sums["free_disk_gb"] += node.local_gb - claims.disk_gb;
        sums["disk_available_least"] += node.disk_available_least_gb;
        sums["running_vms"] += claims.servers;
        sums["current_workload"] += claims.busy;
    }
    Json view = Json::object({{"count", nodes.size()}});
    for (const char* key : {"vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "free_ram_mb",
                            "local_gb", "local_gb_used", "free_disk_gb", "disk_available_least",
                            "running_vms", "current_workload"}) {
        view.set(key, sums[key]);
    }
    return Reply::json(Json::object({{"hypervisor_statistics", std::move(view)}}));
}

}  // namespace

void add_hypervisor_routes(ComputeRoutes& routes) {
    routes.add("GET", "/os-hypervisors", list_hypervisors);
    routes.add("GET", "/os-hypervisors/detail", list_hypervisor_details);
    routes.add("GET", "/os-hypervisors/statistics", show_statistics, {1, 87});
    routes.add("GET", "/os-hypervisors/{hypervisor_id}", show_hypervisor);
    routes.add("GET", "/os-hypervisors/{hypervisor_id}/uptime", show_uptime, {1, 87});
}

}  // namespace kumoi::api
