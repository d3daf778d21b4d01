#include "compute/conductor/server_group_store.h"

#include <algorithm>

namespace kumoi::compute {

Result<void> ServerGroupStore::load() {
    const std::lock_guard lock(mutex_);
    const auto rows = TRY(database_.read([](SqlSession& sql) {
        return sql.query(
            "SELECT id, uuid, project_id, user_id, name, policy, servers_per_host_max FROM "
            "server_groups");
    }));
    for (const SqlRow& row : rows) {
        groups_[row.text(1)] = {row.integer(0), row.text(1), row.text(2),    row.text(3),
                                row.text(4),    row.text(5), row.integer(6), {}};
    }
    const auto members = TRY(database_.read([](SqlSession& sql) {
        return sql.query("SELECT group_uuid, instance_uuid FROM server_group_members");
    }));
    for (const SqlRow& row : members) {
        groups_[row.text(0)].members.push_back(row.text(1));
        group_of_[row.text(1)] = row.text(0);
    }
    return {};
}

Result<ServerGroup> ServerGroupStore::create(ServerGroup group, int64_t count_max) {
    const std::lock_guard lock(mutex_);
    const int64_t count = std::count_if(groups_.begin(), groups_.end(), [&](const auto& entry) {
        return entry.second.project_id == group.project_id;
    });
    if (count_max >= 0 && count >= count_max) {
        return Error{ErrorCode::Forbidden, "Quota exceeded, too many server groups.",
                     fmt::format("The project has {} of {} server groups; delete one first.", count,
                                 count_max),
                     "ServerGroupLimitExceeded"};
    }
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(
            sql.run("INSERT INTO server_groups(uuid, project_id, user_id, name, policy, "
                    "servers_per_host_max) VALUES(?, ?, ?, ?, ?, ?)",
                    group.uuid, group.project_id, group.user_id, group.name, group.policy,
                    group.servers_per_host_max));
        group.id = sql.last_insert_id();
        return {};
    }));
    groups_[group.uuid] = group;
    return group;
}

Result<ServerGroup> ServerGroupStore::get(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto found = groups_.find(uuid);
    if (found == groups_.end()) {
        return Error::not_found("Instance group {} could not be found.", uuid)
            .with_fault("InstanceGroupNotFound");
    }
    return found->second;
}

Result<void> ServerGroupStore::remove(const std::string& uuid) {
    const ServerGroup group = TRY(get(uuid));
    const std::lock_guard lock(mutex_);
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("DELETE FROM server_group_members WHERE group_uuid = ?", uuid));
        TRY(sql.run("DELETE FROM server_groups WHERE uuid = ?", uuid));
        return {};
    }));
    for (const std::string& member : groups_[uuid].members) {
        group_of_.erase(member);
    }
    groups_.erase(uuid);
    return {};
}

std::vector<ServerGroup> ServerGroupStore::list(const std::string& project_id) const {
    const std::lock_guard lock(mutex_);
    std::vector<ServerGroup> result;
    for (const auto& [uuid, group] : groups_) {
        if (project_id.empty() || group.project_id == project_id) {
            result.push_back(group);
        }
    }
    std::sort(result.begin(), result.end(),
              [](const auto& left, const auto& right) { return left.id < right.id; });
    return result;
}

int64_t ServerGroupStore::count(const std::string& project_id) const {
    return static_cast<int64_t>(list(project_id).size());
}

std::optional<ServerGroup> ServerGroupStore::group_of(const std::string& instance_uuid) const {
    const std::lock_guard lock(mutex_);
    const auto found = group_of_.find(instance_uuid);
    return found == group_of_.end() ? std::nullopt : std::optional(groups_.at(found->second));
}

Result<void> ServerGroupStore::add_member(SqlSession& sql, const std::string& uuid,
                                          const std::string& instance_uuid) {
    TRY(sql.run("INSERT INTO server_group_members(group_uuid, instance_uuid) VALUES(?, ?)", uuid,
                instance_uuid));
    return {};
}

void ServerGroupStore::joined(const std::string& uuid, const std::string& instance_uuid) {
    const std::lock_guard lock(mutex_);
    const auto found = groups_.find(uuid);
    if (found != groups_.end()) {
        found->second.members.push_back(instance_uuid);
        group_of_[instance_uuid] = uuid;
    }
}

void ServerGroupStore::left(const std::string& instance_uuid) {
    const std::lock_guard lock(mutex_);
    const auto found = group_of_.find(instance_uuid);
    if (found != group_of_.end()) {
        std::erase(groups_[found->second].members, instance_uuid);
        group_of_.erase(found);
    }
}

}  // namespace kumoi::compute
