// FlavorStore: the sizes servers come in, their extra specs, and which projects see the private
// ones. All in memory, written through to SQLite. A server keeps a copy of its flavor, so deleting
// one never touches a server. Any thread.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/objects.h"

namespace kumoi::compute {

class FlavorStore {
public:
    explicit FlavorStore(Database& database) : database_(database) {}
    Result<void> load();

    Result<void> create(const Flavor& flavor);  // Conflict: FlavorExists, FlavorIdExists
    Result<void> remove(const std::string& flavor_id);
    Result<Flavor> get(const std::string& flavor_id) const;  // NotFound: FlavorNotFound
    std::vector<Flavor> list() const;                        // in order of creation
    int64_t number_of(const std::string& flavor_id) const;   // of its record; 0 when it is gone
    Result<Flavor> set_description(const std::string& flavor_id,
                                   const std::optional<std::string>& description);
    Result<Flavor> set_extra_specs(const std::string& flavor_id, const Properties& added);
    Result<void> remove_extra_spec(const std::string& flavor_id, const std::string& key);

    bool is_visible(const Flavor& flavor, const std::string& project_id) const;
    std::set<std::string> access(const std::string& flavor_id) const;
    Result<void> add_access(const std::string& flavor_id, const std::string& project_id);
    Result<void> remove_access(const std::string& flavor_id, const std::string& project_id);

private:
    Result<Flavor> change(const std::string& flavor_id, const std::function<void(Flavor&)>& change);
    Result<int64_t> id_of(const std::string& flavor_id) const;  // call with mutex_ held

    Database& database_;
    mutable std::mutex mutex_;
    std::map<int64_t, Flavor> flavors_;
    std::map<std::string, std::set<std::string>> access_;  // flavor id -> projects
};

}  // namespace kumoi::compute
