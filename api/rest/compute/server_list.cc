// GET /servers and GET /servers/detail: filtered, sorted, paged.
#include <algorithm>

#include "api/rest/compute/resources.h"
#include "api/rest/compute/server_filter.h"
#include "api/rest/compute/server_view.h"
#include "compute/vm_states.h"

namespace kumoi::api {
namespace {

using compute::InstancePtr;

Result<std::vector<InstancePtr>> candidates(const Call& call, const ServerFilter& filter) {
    const auto& store = call.conductor().instances();
    std::vector<InstancePtr> servers;
    if (!filter.deleted_only) {
        servers = filter.all_projects ? store.all() : store.of_project(filter.project_id);
    }
    if (filter.deleted_only || filter.deleted_too) {
        auto deleted = TRY(store.deleted(filter.all_projects ? "" : filter.project_id,
                                         filter.deleted_since_ns, call.services.osapi_max_limit));
        servers.insert(servers.end(), deleted.begin(), deleted.end());
    }
    if (!filter.soft_deleted_too) {
        std::erase_if(servers, [](const InstancePtr& stored) {
            return stored->instance.vm_state == compute::vm_states::kSoftDeleted;
        });
    }
    if (!filter.tests.empty()) {
        std::erase_if(servers,
                      [&](const InstancePtr& stored) { return !filter.matches(stored->instance); });
    }
    return servers;
}

void sort_servers(const ServerFilter& filter, std::vector<InstancePtr>& servers) {
    if (filter.sort.empty() && !filter.deleted_too) {
        return;  // stored newest first
    }
    std::stable_sort(servers.begin(), servers.end(), [&](const auto& left, const auto& right) {
        for (const auto& [field, ascending] : filter.sort) {
            const auto a = server_field(left->instance, field);
            const auto b = server_field(right->instance, field);
            if (a != b) {
                return ascending ? *a < *b : *b < *a;
            }
        }
        if (filter.sort.empty() && left->instance.created_ns != right->instance.created_ns) {
            return left->instance.created_ns > right->instance.created_ns;
        }
        return left->instance.id > right->instance.id;
    });
}

// Cuts the list to the page; true when a full page was cut, so there may be a next one.
Result<bool> cut_page(const Page& page, std::vector<InstancePtr>& servers) {
    if (page.marker) {
        const auto marker = std::find_if(
            servers.begin(), servers.end(),
            [&](const InstancePtr& stored) { return stored->instance.uuid == *page.marker; });
        if (marker == servers.end()) {
            return Error::invalid("marker [{}] not found", *page.marker);
        }
        servers.erase(servers.begin(), marker + 1);
    }
    if (servers.size() > page.limit) {
        servers.resize(page.limit);
    }
    return !servers.empty() && servers.size() == page.limit;
}

Result<Reply> list(Call& call, bool detail) {
    TRY(call.authorize(detail ? "os_compute_api:servers:detail" : "os_compute_api:servers:index"));
    const Page page = TRY(page_of(call.request, call.services.osapi_max_limit));
    const ServerFilter filter = TRY(parse_server_filter(call, detail));
    std::vector<InstancePtr> servers = TRY(candidates(call, filter));
    sort_servers(filter, servers);
    const bool full = TRY(cut_page(page, servers));

    // Written as text: each server's part is kept with its record and only copied here.
    std::string body = R"({"servers":[)";
    for (const InstancePtr& stored : servers) {
        if (body.back() != '[') {
            body += ',';
        }
        if (detail) {
            body += *server_list_text(call, stored);
        } else {
            server_summary(call, stored->instance).append_to(body);
        }
    }
    body += ']';
    if (full) {
        const std::string url = call.versioned_url() + (detail ? "/servers/detail" : "/servers");
        body += R"(,"servers_links":)";
        next_links(call.request, url, page, servers.back()->instance.uuid).append_to(body);
    }
    body += '}';
    return Reply::text(std::move(body), 200, "application/json");
}

Result<Reply> list_servers(Call& call) {
    return list(call, false);
}
Result<Reply> list_details(Call& call) {
    return list(call, true);
}

}  // namespace

void add_server_list_routes(ComputeRoutes& routes) {
    routes.add("GET", "/servers", list_servers);
    routes.add("GET", "/servers/detail", list_details);
}

}  // namespace kumoi::api
