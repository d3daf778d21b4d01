// ServiceCatalog: which endpoints a token may use, read from Keystone's token or from the
// service_catalog of a request's context (two shapes of the same). A value; hostile input is
// checked, unusable entries are left out.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace kumoi::clients {

struct CatalogEndpoint {
    std::string interface;  // public, internal, admin
    std::string region;
    std::string url;
};

struct CatalogService {
    std::string type;
    std::string name;
    std::vector<CatalogEndpoint> endpoints;
};

class ServiceCatalog {
public:
    ServiceCatalog() = default;
    // An array of {"type", "name", "endpoints": [{"interface", "region", "url"}]} or, in contexts,
    // [{"region", "publicURL", "internalURL", "adminURL"}]. Error: not an array, or too large.
    static Result<ServiceCatalog> parse(const Json& json);

    bool empty() const { return services_.empty(); }
    const std::vector<CatalogService>& services() const { return services_; }
    // The first endpoint by the order of `interfaces`, of this type (or another name of the same
    // service: block-storage and volumev3). Empty name or region: any.
    std::optional<std::string> find(const std::string& type, const std::string& name,
                                    const std::vector<std::string>& interfaces,
                                    const std::string& region) const;
    // "identity, image, network": for messages.
    std::string type_names() const;

private:
    std::vector<CatalogService> services_;
};

}  // namespace kumoi::clients
