// IdentityCatalog: regions, services and endpoints: where clients find each API. Filled at start
// from the configuration, so a moved address needs no API call. Any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/conductor/identity_records.h"
#include "compute/conductor/identity_store.h"

namespace kumoi::compute::identity {

// One service as the configuration knows it; all three interfaces get the same URL.
struct CatalogEntry {
    std::string type;  // identity, compute, image, network
    std::string name;  // keystone, nova, glance, neutron: what Nova's users expect to see
    std::string url;
};

class IdentityCatalog {
public:
    IdentityCatalog(Database& database, const IdentityStore& store)
        : database_(database), store_(store) {}

    // Makes the region's catalog equal to `entries`; ids of what stays are kept.
    Result<void> set(const std::string& region_id, const std::vector<CatalogEntry>& entries);
    Result<std::vector<Region>> regions() const;
    Result<std::vector<Service>> services() const;
    Result<std::vector<Endpoint>> endpoints() const;

private:
    Result<std::string> put_service(SqlSession& sql, const CatalogEntry& entry);

    Database& database_;
    const IdentityStore& store_;
};

}  // namespace kumoi::compute::identity
