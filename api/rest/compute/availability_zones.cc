// Availability zones: their names for everybody, their hosts and services for administrators.
#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"

namespace kumoi::api {
namespace {

using compute::ServiceRecord;

std::map<std::string, std::vector<ServiceRecord>> services_by_zone(const Call& call) {
    std::map<std::string, std::vector<ServiceRecord>> zones;
    for (const std::string& zone : call.conductor().aggregates().zones()) {
        zones[zone];
    }
    for (const ServiceRecord& service : call.conductor().all_services()) {
        zones[call.conductor().zone_of(service)].push_back(service);
    }
    return zones;
}

// A zone is available while one of its services is enabled (Nova's rule).
bool is_available(const std::vector<ServiceRecord>& services) {
    for (const ServiceRecord& service : services) {
        if (!service.disabled) {
            return true;
        }
    }
    return false;
}

Json zone_view(const std::string& name, bool available, Json hosts) {
    return Json::object({{"zoneName", name},
                         {"zoneState", Json::object({{"available", available}})},
                         {"hosts", std::move(hosts)}});
}

Json hosts_view(const std::vector<ServiceRecord>& services) {
    Json hosts = Json::object();
    for (const ServiceRecord& service : services) {
        Json& host = hosts[service.host];
        if (host.is_null()) {
            host = Json::object();
        }
        std::string updated = iso8601_micros(service.last_seen_ns);
        updated.pop_back();
        host.set(service.binary, Json::object({{"active", !service.disabled},
                                               {"available", service.up},
                                               {"updated_at", updated}}));
    }
    return hosts;
}

Result<Reply> list(Call& call, bool detail) {
    Json zones = Json::array();
    for (const auto& [name, services] : services_by_zone(call)) {
        if (!detail && name == compute::kInternalZone) {
            continue;
        }
        if (name == compute::kDefaultZone && services.empty()) {
            continue;  // all hosts are in other zones
        }
        zones.push_back(
            zone_view(name, is_available(services), detail ? hosts_view(services) : Json()));
    }
    return Reply::json(Json::object({{"availabilityZoneInfo", std::move(zones)}}));
}

Result<Reply> list_zones(Call& call) {
    TRY(call.authorize("os_compute_api:os-availability-zone:list"));
    return list(call, false);
}

Result<Reply> list_zone_details(Call& call) {
    TRY(call.authorize("os_compute_api:os-availability-zone:detail"));
    return list(call, true);
}

}  // namespace

void add_availability_zone_routes(ComputeRoutes& routes) {
    routes.add("GET", "/os-availability-zone", list_zones);
    routes.add("GET", "/os-availability-zone/detail", list_zone_details);
}

}  // namespace kumoi::api
