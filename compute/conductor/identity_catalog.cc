#include "compute/conductor/identity_catalog.h"

#include <algorithm>

namespace kumoi::compute::identity {

Result<std::string> IdentityCatalog::put_service(SqlSession& sql, const CatalogEntry& entry) {
    const auto row =
        TRY(sql.query_one("SELECT id FROM identity_services WHERE type = ?", entry.type));
    if (row) {
        TRY(sql.run("UPDATE identity_services SET name = ? WHERE id = ?", entry.name,
                    row->text(0)));
        return row->text(0);
    }
    const std::string id = store_.new_id();
    TRY(sql.run("INSERT INTO identity_services(id, type, name, enabled) VALUES(?, ?, ?, 1)", id,
                entry.type, entry.name));
    return id;
}

Result<void> IdentityCatalog::set(const std::string& region_id,
                                  const std::vector<CatalogEntry>& entries) {
    return database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("INSERT OR IGNORE INTO identity_regions(id, description) VALUES(?, '')",
                    region_id));
        for (const CatalogEntry& entry : entries) {
            const std::string service_id = TRY(put_service(sql, entry));
            for (const char* interface : {"public", "internal", "admin"}) {
                TRY(
                    sql.run("INSERT INTO identity_endpoints(id, service_id, interface, region_id, "
                            "url, enabled) VALUES(?, ?, ?, ?, ?, 1) "
                            "ON CONFLICT(service_id, interface, region_id) "
                            "DO UPDATE SET url = excluded.url",
                            store_.new_id(), service_id, interface, region_id, entry.url));
            }
        }
        for (const SqlRow& row : TRY(sql.query("SELECT id, type FROM identity_services"))) {
            const bool wanted =
                std::any_of(entries.begin(), entries.end(),
                            [&](const CatalogEntry& entry) { return entry.type == row.text(1); });
            if (!wanted) {
                TRY(sql.run("DELETE FROM identity_services WHERE id = ?", row.text(0)));
            }
        }
        TRY(sql.run("DELETE FROM identity_regions WHERE id != ?", region_id));
        return {};
    });
}

Result<std::vector<Region>> IdentityCatalog::regions() const {
    return database_.read([](SqlSession& sql) -> Result<std::vector<Region>> {
        std::vector<Region> regions;
        for (const SqlRow& row :
             TRY(sql.query("SELECT id, description FROM identity_regions ORDER BY id"))) {
            regions.push_back({row.text(0), row.text(1)});
        }
        return regions;
    });
}

Result<std::vector<Service>> IdentityCatalog::services() const {
    return database_.read([](SqlSession& sql) -> Result<std::vector<Service>> {
        std::vector<Service> services;
        for (const SqlRow& row : TRY(sql.query(
                 "SELECT id, type, name, enabled FROM identity_services ORDER BY type"))) {
            services.push_back({row.text(0), row.text(1), row.text(2), row.integer(3) != 0});
        }
        return services;
    });
}

Result<std::vector<Endpoint>> IdentityCatalog::endpoints() const {
    return database_.read([](SqlSession& sql) -> Result<std::vector<Endpoint>> {
        std::vector<Endpoint> endpoints;
        for (const SqlRow& row :
             TRY(sql.query("SELECT id, service_id, interface, region_id, url, enabled "
                           "FROM identity_endpoints ORDER BY service_id, interface"))) {
            endpoints.push_back({row.text(0), row.text(1), row.text(2), row.text(3), row.text(4),
                                 row.integer(5) != 0});
        }
        return endpoints;
    });
}

}  // namespace kumoi::compute::identity
