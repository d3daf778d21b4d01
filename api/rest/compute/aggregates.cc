// Host aggregates: sets of hosts with metadata; the one that names an availability zone makes it.
#include <charconv>

#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/flavor_view.h"
#include "api/rest/compute/resources.h"
#include "api/rest/schema.h"
#include "base/uuid.h"

namespace kumoi::api {
namespace {

using compute::Aggregate;

std::string naive(int64_t wall_ns) {
    std::string text = iso8601_micros(wall_ns);
    text.pop_back();
    return text;
}

Json aggregate_view(const Call& call, const Aggregate& aggregate) {
    Json view = Json::object(
        {{"id", aggregate.id},
         {"name", aggregate.name},
         {"created_at", naive(aggregate.created_ns)},
         {"updated_at", aggregate.updated_ns == 0 ? Json() : Json(naive(aggregate.updated_ns))},
         {"deleted_at", Json()},
         {"deleted", false},
         {"availability_zone", aggregate.zone()},
         {"hosts", Json::array_of(aggregate.hosts)},
         {"metadata", properties_view(aggregate.metadata)}});
    if (call.at_least(41)) {
        view.set("uuid", aggregate.uuid);
    }
    return view;
}

Reply aggregate_reply(const Call& call, const Aggregate& aggregate) {
    return Reply::json(Json::object({{"aggregate", aggregate_view(call, aggregate)}}));
}

Result<int64_t> id_of(const Call& call) {
    const std::string& text = call.parameter("aggregate_id");
    int64_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc() || end != text.data() + text.size()) {
        return Error::invalid("'{}' is not an aggregate's id, which is a number", text);
    }
    return id;
}

Result<Reply> list_aggregates(Call& call) {
    TRY(call.authorize("os_compute_api:os-aggregates:index"));
    Json views = Json::array();
    for (const Aggregate& aggregate : call.conductor().aggregates().list()) {
        views.push_back(aggregate_view(call, aggregate));
    }
    return Reply::json(Json::object({{"aggregates", std::move(views)}}));
}

Result<Reply> create_aggregate(Call& call) {
    TRY(call.authorize("os_compute_api:os-aggregates:create"));
    const Json body = TRY(call.body());
    Fields fields = TRY(Fields::root(body, "aggregate"));
    Aggregate aggregate;
    aggregate.uuid = Uuid::generate(call.services.random).text();
    aggregate.name = TRY(fields.name("name"));
    if (const auto zone = TRY(fields.optional_text("availability_zone", {1, 255}))) {
        if (zone->find(':') != std::string::npos) {
            return invalid_input("availability_zone", Json(*zone), "It must not contain ':'");
        }
        aggregate.metadata["availability_zone"] = *zone;
    }
    TRY(fields.finish());
    const Aggregate stored = TRY(call.conductor().aggregates().create(std::move(aggregate)));
    Reply reply = aggregate_reply(call, stored);
    return reply;
}

Result<Reply> show_aggregate(Call& call) {
    TRY(call.authorize("os_compute_api:os-aggregates:show"));
    return aggregate_reply(call, TRY(call.conductor().aggregates().get(TRY(id_of(call)))));
}

Result<Reply> update_aggregate(Call& call) {
    TRY(call.authorize("os_compute_api:os-aggregates:update"));
    const int64_t id = TRY(id_of(call));
    const Json body = TRY(call.body());
    Fields fields = TRY(Fields::root(body, "aggregate"));
    const auto name = TRY(fields.optional_name("name"));
    const auto zone = TRY(fields.optional_text("availability_zone", {1, 255}));
    TRY(fields.finish());
    auto& aggregates = call.conductor().aggregates();
    Aggregate aggregate = TRY(aggregates.get(id));
    if (name) {
        aggregate = TRY(aggregates.rename(id, *name));
    }
    if (zone) {
        aggregate = TRY(aggregates.set_metadata(id, {{"availability_zone", *zone}}));
    }
    return aggregate_reply(call, aggregate);
}

Result<Reply> delete_aggregate(Call& call) {
    TRY(call.authorize("os_compute_api:os-aggregates:delete"));
    TRY(call.conductor().aggregates().remove(TRY(id_of(call))));
    return Reply::ok();
}

Result<Reply> change_host(Call& call, const Json& body, bool add) {
    TRY(call.authorize(add ? "os_compute_api:os-aggregates:add_host"
                           : "os_compute_api:os-aggregates:remove_host"));
    const int64_t id = TRY(id_of(call));
    Fields fields = TRY(Fields::root(body, add ? "add_host" : "remove_host"));
    const std::string host = TRY(fields.text("host", {1, 255}));
    TRY(fields.finish());
    auto& aggregates = call.conductor().aggregates();
    if (add && !call.conductor().services().find_node(host)) {
        return Error::not_found("Compute host {} could not be found.", host)
            .with_fault("ComputeHostNotFound");
    }
    return aggregate_reply(
        call, add ? TRY(aggregates.add_host(id, host)) : TRY(aggregates.remove_host(id, host)));
}

Result<Reply> set_metadata(Call& call, const Json& body) {
    TRY(call.authorize("os_compute_api:os-aggregates:set_metadata"));
    const int64_t id = TRY(id_of(call));
    Fields fields = TRY(Fields::root(body, "set_metadata"));
    TRY(fields.require("metadata"));
    const Json* metadata = fields.take("metadata");
    TRY(fields.finish());
    Fields items = TRY(Fields::of(*metadata, "metadata"));
    std::map<std::string, std::optional<std::string>> changes;
    for (const auto& [key, value] : metadata->as_object()) {
        TRY(check_metadata_key(key, "metadata", *metadata));
        changes[key] = TRY(items.optional_text(key, {0, 255}));
    }
    return aggregate_reply(call, TRY(call.conductor().aggregates().set_metadata(id, changes)));
}

Result<Reply> aggregate_action(Call& call) {
    const Json body = TRY(call.body());
    if (body.contains("add_host") || body.contains("remove_host")) {
        return change_host(call, body, body.contains("add_host"));
    }
    if (body.contains("set_metadata")) {
        return set_metadata(call, body);
    }
    return Error::invalid("There is no such action: {}",
                          body.size() == 0 ? "" : body.as_object().front().first);
}

}  // namespace

void add_aggregate_routes(ComputeRoutes& routes) {
    routes.add("GET", "/os-aggregates", list_aggregates);
    routes.add("POST", "/os-aggregates", create_aggregate);
    routes.add("GET", "/os-aggregates/{aggregate_id}", show_aggregate);
    routes.add("PUT", "/os-aggregates/{aggregate_id}", update_aggregate);
    routes.add("DELETE", "/os-aggregates/{aggregate_id}", delete_aggregate);
    routes.add("POST", "/os-aggregates/{aggregate_id}/action", aggregate_action);
}

}  // namespace kumoi::api
