// Rows of networks, subnets, ports and security groups: SQL in, values out, no policy. Every
// function works inside the caller's transaction. Lists come in order of creation.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/network/network_objects.h"

namespace kumoi::compute::network_store {

Result<void> migrate(Database& database);

Result<std::vector<Network>> list_networks(SqlSession& sql, const RecordFilter& filter);
Result<void> insert_network(SqlSession& sql, const Network& network);
Result<void> update_network(SqlSession& sql, const Network& network);
Result<void> delete_network(SqlSession& sql, const std::string& id);

Result<std::vector<Subnet>> list_subnets(SqlSession& sql, const RecordFilter& filter);
Result<void> insert_subnet(SqlSession& sql, const Subnet& subnet);
Result<void> update_subnet(SqlSession& sql, const Subnet& subnet);
Result<void> delete_subnet(SqlSession& sql, const std::string& id);

// Ports with their addresses and groups.
Result<std::vector<Port>> list_ports(SqlSession& sql, const RecordFilter& filter);
Result<void> insert_port(SqlSession& sql, const Port& port);
Result<void> update_port(SqlSession& sql, const Port& port);  // rewrites addresses and groups
Result<void> delete_port(SqlSession& sql, const std::string& id);
Result<void> set_port_status(SqlSession& sql, const std::string& id, const std::string& status);

// The port that holds the address, empty for none.
Result<std::string> address_owner(SqlSession& sql, const std::string& subnet_id,
                                  const std::string& address);
Result<std::vector<std::string>> group_member_addresses(SqlSession& sql,
                                                        const std::string& group_id);
// MAC, address and name for the DHCP server of a network.
Result<std::vector<DhcpHostSpec>> dhcp_hosts(SqlSession& sql, const std::string& network_id);

Result<std::vector<SecurityGroup>> list_security_groups(SqlSession& sql,
                                                        const RecordFilter& filter);
Result<void> insert_security_group(SqlSession& sql, const SecurityGroup& group);  // and its rules
Result<void> update_security_group(SqlSession& sql, const SecurityGroup& group);  // without rules
Result<void> delete_security_group(SqlSession& sql, const std::string& id);
Result<void> insert_rule(SqlSession& sql, const SecurityGroupRule& rule);
Result<void> delete_rule(SqlSession& sql, const std::string& id);
Result<std::optional<SecurityGroupRule>> find_rule(SqlSession& sql, const std::string& id);

Result<int64_t> count(SqlSession& sql, const std::string& table, const std::string& project_id);
Result<void> set_tags(SqlSession& sql, const std::string& table, const std::string& id,
                      const std::vector<std::string>& tags, int64_t now_ns);

// Limits of a project that differ from the default.
Result<std::optional<int64_t>> quota_limit(SqlSession& sql, const std::string& project_id,
                                           const std::string& resource);
Result<void> set_quota_limit(SqlSession& sql, const std::string& project_id,
                             const std::string& resource, int64_t limit);
Result<void> clear_quota(SqlSession& sql, const std::string& project_id);

}  // namespace kumoi::compute::network_store
