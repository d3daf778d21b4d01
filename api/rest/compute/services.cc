// Compute services: who is there, enabled and alive; enabling, disabling, forcing down, forgetting.
#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"
#include "api/rest/schema.h"

namespace kumoi::api {
namespace {

using compute::ServiceChange;
using compute::ServiceRecord;

Json service_view(const Call& call, const ServiceRecord& service) {
    std::string updated = iso8601_micros(service.last_seen_ns);
    updated.pop_back();
    Json view = Json::object({{"binary", service.binary},
                              {"host", service.host},
                              {"id", call.at_least(53) ? Json(service.uuid) : Json(service.id)},
                              {"zone", call.conductor().zone_of(service)},
                              {"status", service.disabled ? "disabled" : "enabled"},
                              {"state", service.up ? "up" : "down"},
                              {"updated_at", updated},
                              {"disabled_reason", service.disabled_reason}});
    if (call.at_least(11)) {
        view.set("forced_down", service.forced_down);
    }
    return view;
}

Result<Reply> list_services(Call& call) {
    TRY(call.authorize("os_compute_api:os-services:list"));
    const auto host = call.request.query.first("host");
    const auto binary = call.request.query.first("binary");
    Json services = Json::array();
    for (const ServiceRecord& service : call.conductor().all_services()) {
        if ((!host || *host == service.host) && (!binary || *binary == service.binary)) {
            services.push_back(service_view(call, service));
        }
    }
    return Reply::json(Json::object({{"services", std::move(services)}}));
}

Result<void> check_reason(const std::string& reason) {
    if (reason.empty() || reason.size() > 255) {
        return Error::invalid("Disabled reason contains invalid characters or is too long");
    }
    return {};
}

Result<ServiceRecord> named_service(const Call& call, const std::string& host,
                                    const std::string& binary) {
    const auto service = call.conductor().services().find_service(host, binary);
    if (!service) {
        return Error::not_found("Could not find binary {} on host {}.", binary, host)
            .with_fault("HostBinaryNotFound");
    }
    return *service;
}

// PUT /os-services/{uuid}, from 2.53 on.
Result<Reply> update_by_uuid(Call& call) {
    const Json body = TRY(call.body());
    Fields fields = TRY(Fields::of(body, "body"));
    const auto status = TRY(fields.optional_text("status"));
    ServiceChange change;
    change.disabled_reason = TRY(fields.optional_text("disabled_reason", {1, 255}));
    change.forced_down = TRY(fields.optional_boolean("forced_down"));
    TRY(fields.finish());
    if (status && *status != "enabled" && *status != "disabled") {
        return invalid_input("status", Json(*status),
                             fmt::format("'{}' is not one of ['enabled', 'disabled']", *status));
    }
    if (change.disabled_reason && status != "disabled") {
        return Error::invalid("Specifying disabled_reason when status is not disabled is invalid.");
    }
    if (!status && !change.forced_down) {
        return Error::invalid(
            "No updates were requested. Fields 'status' or 'forced_down' should "
            "be specified.");
    }
    if (status) {
        change.disabled = *status == "disabled";
    }
    const auto service = call.conductor().services().find_service(call.parameter("service_id"));
    if (!service || service->binary != "nova-compute") {
        return Error::not_found("Service {} could not be found.", call.parameter("service_id"));
    }
    const ServiceRecord changed = TRY(call.conductor().services().change(service->uuid, change));
    return Reply::json(Json::object({{"service", service_view(call, changed)}}));
}

// PUT /os-services/{enable,disable,disable-log-reason,force-down}, below 2.53.
Result<Reply> update_by_verb(Call& call) {
    const std::string& verb = call.parameter("service_id");
    const Json body = TRY(call.body());
    Fields fields = TRY(Fields::of(body, "body"));
    const std::string host = TRY(fields.text("host", {1, 255}));
    const std::string binary = TRY(fields.text("binary", {1, 255}));
    ServiceChange change;
    if (verb == "enable" || verb == "disable" || verb == "disable-log-reason") {
        change.disabled = verb != "enable";
        if (verb == "disable-log-reason") {
            const std::string reason = TRY(fields.text("disabled_reason", {0, 255}));
            TRY(check_reason(reason));
            change.disabled_reason = reason;
        }
    } else if (verb == "force-down" && call.at_least(11)) {
        TRY(fields.require("forced_down"));
        change.forced_down = TRY(fields.optional_boolean("forced_down"));
    } else {
        return Error::not_found("Unknown action");
    }
    fields.ignore("disabled_reason");
    TRY(fields.finish());
    const ServiceRecord service = TRY(named_service(call, host, binary));
    const ServiceRecord changed = TRY(call.conductor().services().change(service.uuid, change));
    Json view = Json::object({{"host", host}, {"binary", binary}});
    if (verb == "force-down") {
        view.set("forced_down", changed.forced_down);
    } else {
        view.set("status", changed.disabled ? "disabled" : "enabled");
        if (verb == "disable-log-reason") {
            view.set("disabled_reason", changed.disabled_reason);
        }
    }
    return Reply::json(Json::object({{"service", std::move(view)}}));
}

Result<Reply> update_service(Call& call) {
    TRY(call.authorize("os_compute_api:os-services:update"));
    return call.at_least(53) ? update_by_uuid(call) : update_by_verb(call);
}

Result<Reply> delete_service(Call& call) {
    TRY(call.authorize("os_compute_api:os-services:delete"));
    TRY(call.conductor().remove_service(call.parameter("service_id")));
    return Reply::no_content();
}

}  // namespace

void add_service_routes(ComputeRoutes& routes) {
    routes.add("GET", "/os-services", list_services);
    routes.add("PUT", "/os-services/{service_id}", update_service);
    routes.add("DELETE", "/os-services/{service_id}", delete_service);
}

}  // namespace kumoi::api
