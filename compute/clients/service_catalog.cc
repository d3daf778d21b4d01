#include "compute/clients/service_catalog.h"

#include <algorithm>

namespace kumoi::clients {
namespace {

constexpr size_t kServicesMax = 1000;
constexpr size_t kEndpointsMax = 10'000;

// Names of the service types authority that mean the same service, best first.
std::vector<std::string> names_of_type(const std::string& type) {
    static const std::vector<std::string> kVolumes = {"block-storage", "volumev3", "block-store",
                                                      "volume"};
    if (std::find(kVolumes.begin(), kVolumes.end(), type) == kVolumes.end()) {
        return {type};
    }
    std::vector<std::string> names = {type};
    std::copy_if(kVolumes.begin(), kVolumes.end(), std::back_inserter(names),
                 [&](const std::string& name) { return name != type; });
    return names;
}

void take_endpoint(const Json& json, CatalogService& service) {
    const std::string region = json.string_or("region", json.string_or("region_id"));
    if (const std::string url = json.string_or("url"); !url.empty()) {
        service.endpoints.push_back({json.string_or("interface"), region, url});
        return;
    }
    for (const char* interface : {"public", "internal", "admin"}) {
        if (const std::string url = json.string_or(fmt::format("{}URL", interface)); !url.empty()) {
            service.endpoints.push_back({interface, region, url});
        }
    }
}

}  // namespace

Result<ServiceCatalog> ServiceCatalog::parse(const Json& json) {
    if (!json.is_array() || json.size() > kServicesMax) {
        return Error::invalid("the service catalog is no array of at most {} services",
                              kServicesMax);
    }
    ServiceCatalog catalog;
    size_t endpoints = 0;
    for (const Json& entry : json.as_array()) {
        CatalogService service{entry.string_or("type"), entry.string_or("name"), {}};
        const Json* list = entry.find("endpoints");
        if (service.type.empty() || list == nullptr || !list->is_array()) {
            continue;
        }
        endpoints += list->size();
        if (endpoints > kEndpointsMax) {
            return Error::too_large("the service catalog has more than {} endpoints",
                                    kEndpointsMax);
        }
        for (const Json& endpoint : list->as_array()) {
            take_endpoint(endpoint, service);
        }
        catalog.services_.push_back(std::move(service));
    }
    return catalog;
}

std::optional<std::string> ServiceCatalog::find(const std::string& type, const std::string& name,
                                                const std::vector<std::string>& interfaces,
                                                const std::string& region) const {
    for (const std::string& type_name : names_of_type(type)) {
        for (const std::string& interface : interfaces) {
            for (const CatalogService& service : services_) {
                if (service.type != type_name || (!name.empty() && service.name != name)) {
                    continue;
                }
                const auto found = std::find_if(service.endpoints.begin(), service.endpoints.end(),
                                                [&](const auto& one) {
                                                    return one.interface == interface &&
                                                           (region.empty() || one.region == region);
                                                });
                if (found != service.endpoints.end()) {
                    return found->url;
                }
            }
        }
    }
    return std::nullopt;
}

std::string ServiceCatalog::type_names() const {
    std::string names;
    for (const CatalogService& service : services_) {
        names += (names.empty() ? "" : ", ") + service.type;
    }
    return names.empty() ? "nothing" : names;
}

}  // namespace kumoi::clients
