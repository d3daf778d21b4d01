// ServerGroupStore: groups of servers with a keep-together or keep-apart policy. In memory, written
// through to SQLite. A server belongs to at most one group; its membership ends with it. Any
// thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "compute/conductor/database.h"

namespace kumoi::compute {

struct ServerGroup {
    int64_t id = 0;
    std::string uuid;
    std::string project_id;
    std::string user_id;
    std::string name;
    std::string policy;                // affinity, anti-affinity, soft-affinity, soft-anti-affinity
    int64_t servers_per_host_max = 0;  // rule max_server_per_host; 0: not set
    std::vector<std::string> members;
};

class ServerGroupStore {
public:
    explicit ServerGroupStore(Database& database) : database_(database) {}
    Result<void> load();

    // Refuses when the project has `count_max` groups already (-1: no limit).
    Result<ServerGroup> create(ServerGroup group, int64_t count_max);
    Result<ServerGroup> get(const std::string& uuid) const;  // NotFound: InstanceGroupNotFound
    Result<void> remove(const std::string& uuid);
    std::vector<ServerGroup> list(const std::string& project_id) const;  // empty: all
    int64_t count(const std::string& project_id) const;
    std::optional<ServerGroup> group_of(const std::string& instance_uuid) const;

    // The row is written inside the caller's transaction; joined() makes it visible after commit.
    static Result<void> add_member(SqlSession& sql, const std::string& uuid,
                                   const std::string& instance_uuid);
    void joined(const std::string& uuid, const std::string& instance_uuid);
    void left(const std::string& instance_uuid);

private:
    Database& database_;
    mutable std::mutex mutex_;
    std::map<std::string, ServerGroup> groups_;
    std::map<std::string, std::string> group_of_;  // server -> group
};

}  // namespace kumoi::compute
