// The task log of a server: its actions and, for those who may see them, the events of each. From
// 2.21 on also of a server that is deleted.
#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"
#include "base/digest.h"

namespace kumoi::api {
namespace {

using compute::InstanceAction;
using compute::InstanceActionEvent;

std::string naive(int64_t wall_ns) {
    std::string text = iso8601_micros(wall_ns);
    text.pop_back();
    return text;
}

// The server of the path, or since 2.21 the record of a deleted one of the caller's project.
Result<compute::InstancePtr> server_or_deleted(const Call& call, std::string_view rule) {
    auto server = call.server(rule);
    if (server.ok() || !call.at_least(21) || server.error().code != ErrorCode::NotFound) {
        return server;
    }
    const auto deleted =
        TRY(call.conductor().instances().find_deleted(call.parameter("server_id")));
    if (deleted == nullptr ||
        (deleted->instance.project_id != call.who.project_id && !call.who.is_admin)) {
        return server;
    }
    TRY(call.authorize(rule, {deleted->instance.project_id, deleted->instance.user_id}));
    return deleted;
}

Json action_view(const Call& call, const InstanceAction& action) {
    Json view = Json::object({{"action", action.action},
                              {"instance_uuid", action.instance_uuid},
                              {"request_id", action.request_id},
                              {"user_id", action.user_id},
                              {"project_id", action.project_id},
                              {"start_time", naive(action.start_ns)},
                              {"message", action.message}});
    if (call.at_least(58)) {
        view.set("updated_at", naive(action.updated_ns));
    }
    return view;
}

Json event_view(const Call& call, const compute::Instance& server,
                const InstanceActionEvent& event) {
    const bool with_host = call.allows("os_compute_api:os-instance-actions:events");
    Json view =
        Json::object({{"event", event.event},
                      {"start_time", naive(event.start_ns)},
                      {"finish_time", event.finish_ns == 0 ? Json() : Json(naive(event.finish_ns))},
                      {"result", event.result}});
    if (with_host) {
        view.set("traceback", event.traceback);
    }
    if (call.at_least(62)) {
        view.set("hostId", event.host.empty() ? Json("")
                                              : Json(digest_hex(DigestKind::Sha224,
                                                                server.project_id + event.host)));
        if (with_host) {
            view.set("host", event.host);
        }
    }
    if (call.at_least(84) && call.allows("os_compute_api:os-instance-actions:events:details")) {
        view.set("details", event.details);
    }
    return view;
}

Result<compute::ActionQuery> parse_query(const Call& call) {
    compute::ActionQuery query;
    if (!call.at_least(58)) {
        return query;
    }
    const Page page = TRY(page_of(call.request, call.services.osapi_max_limit));
    query.count_max = page.limit;
    query.marker_request_id = page.marker;
    const auto time = [&](const char* name, int64_t& value) -> Result<void> {
        if (const auto text = call.request.query.first(name)) {
            const auto parsed = parse_iso8601(*text);
            if (!parsed) {
                return Error::invalid(
                    "Invalid input for query parameters {}. Value: {}. It is not "
                    "a 'date-time'",
                    name, *text);
            }
            value = *parsed;
        }
        return {};
    };
    TRY(time("changes-since", query.changes_since_ns));
    if (call.at_least(66)) {
        TRY(time("changes-before", query.changes_before_ns));
    }
    return query;
}

Result<Reply> list_actions(Call& call) {
    const auto server = TRY(server_or_deleted(call, "os_compute_api:os-instance-actions:list"));
    const compute::ActionQuery query = TRY(parse_query(call));
    const std::string& uuid = server->instance.uuid;
    const auto actions = TRY(call.conductor().actions().list(uuid, query));
    Json views = Json::array();
    for (const InstanceAction& action : actions) {
        views.push_back(action_view(call, action));
    }
    Json body = Json::object({{"instanceActions", std::move(views)}});
    if (call.at_least(58) && !actions.empty() && actions.size() == query.count_max) {
        Page page;
        page.limit = query.count_max;
        body.set("links", next_links(call.request,
                                     fmt::format("{}/servers/{}/os-instance-actions",
                                                 call.versioned_url(), uuid),
                                     page, actions.back().request_id));
    }
    return Reply::json(body);
}

Result<Reply> show_action(Call& call) {
    const auto server = TRY(server_or_deleted(call, "os_compute_api:os-instance-actions:show"));
    const std::string& request_id = call.parameter("request_id");
    const auto action = TRY(call.conductor().actions().find(server->instance.uuid, request_id));
    if (!action) {
        return Error::not_found("Action {} not found", request_id)
            .with_fault("InstanceActionNotFound");
    }
    Json view = action_view(call, *action);
    // From 2.51 on everybody sees the events, without tracebacks.
    if (call.at_least(51) || call.allows("os_compute_api:os-instance-actions:events")) {
        Json events = Json::array();
        for (const InstanceActionEvent& event :
             TRY(call.conductor().actions().events(action->id))) {
            events.push_back(event_view(call, server->instance, event));
        }
        view.set("events", std::move(events));
    }
    return Reply::json(Json::object({{"instanceAction", std::move(view)}}));
}

}  // namespace

void add_instance_action_routes(ComputeRoutes& routes) {
    routes.add("GET", "/servers/{server_id}/os-instance-actions", list_actions);
    routes.add("GET", "/servers/{server_id}/os-instance-actions/{request_id}", show_action);
}

}  // namespace kumoi::api
