#include "compute/conductor/quota_store.h"

#include <algorithm>

namespace kumoi::compute {

const std::vector<std::pair<std::string, int64_t>>& quota_defaults() {
    static const std::vector<std::pair<std::string, int64_t>> defaults = {
        {"instances", 10},
        {"cores", 20},
        {"ram", 50 * 1024},
        {"metadata_items", 128},
        {"injected_files", 5},
        {"injected_file_content_bytes", 10 * 1024},
        {"injected_file_path_bytes", 255},
        {"key_pairs", 100},
        {"server_groups", 10},
        {"server_group_members", 10},
        // Network resources: not Nova's to limit any more, still in its answers below 2.50/2.57.
        {"fixed_ips", -1},
        {"floating_ips", -1},
        {"security_groups", -1},
        {"security_group_rules", -1},
    };
    return defaults;
}

Result<void> QuotaStore::load() {
    const std::lock_guard lock(mutex_);
    const auto rows = TRY(database_.read([](SqlSession& sql) {
        return sql.query("SELECT project_id, resource, hard_limit FROM quotas");
    }));
    for (const SqlRow& row : rows) {
        overrides_[row.text(0)][row.text(1)] = row.integer(2);
    }
    return {};
}

std::map<std::string, int64_t> QuotaStore::defaults() const {
    return limits({});
}

std::map<std::string, int64_t> QuotaStore::limits(const std::string& project_id) const {
    std::map<std::string, int64_t> result(quota_defaults().begin(), quota_defaults().end());
    const std::lock_guard lock(mutex_);
    for (const std::string& layer : {std::string(), project_id}) {
        const auto found = overrides_.find(layer);
        if (found != overrides_.end()) {
            for (const auto& [resource, value] : found->second) {
                result[resource] = value;
            }
        }
    }
    return result;
}

int64_t QuotaStore::limit(const std::string& project_id, const std::string& resource) const {
    const auto all = limits(project_id);
    const auto found = all.find(resource);
    KUMOI_ASSERT(found != all.end());
    return found->second;
}

Result<void> QuotaStore::set(const std::string& project_id,
                             const std::map<std::string, int64_t>& limits) {
    for (const auto& [resource, value] : limits) {
        const bool known = std::any_of(quota_defaults().begin(), quota_defaults().end(),
                                       [&](const auto& entry) { return entry.first == resource; });
        if (!known) {
            return Error::invalid("Unknown quota resources {}.", resource)
                .with_fault("QuotaResourceUnknown");
        }
    }
    const std::lock_guard lock(mutex_);
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        for (const auto& [resource, value] : limits) {
            TRY(
                sql.run("INSERT INTO quotas(project_id, resource, hard_limit) VALUES(?, ?, ?) ON "
                        "CONFLICT(project_id, resource) DO UPDATE SET hard_limit = "
                        "excluded.hard_limit",
                        project_id, resource, value));
        }
        return {};
    }));
    for (const auto& [resource, value] : limits) {
        overrides_[project_id][resource] = value;
    }
    return {};
}

Result<void> QuotaStore::reset(const std::string& project_id) {
    const std::lock_guard lock(mutex_);
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("DELETE FROM quotas WHERE project_id = ?", project_id));
        return {};
    }));
    overrides_.erase(project_id);
    return {};
}

}  // namespace kumoi::compute
