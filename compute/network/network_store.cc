#include "compute/network/network_store.h"

#include <fmt/format.h>

#include <map>

#include "base/json.h"

namespace kumoi::compute::network_store {
namespace {

const std::vector<std::string> kSchema = {
    "CREATE TABLE networks(id TEXT PRIMARY KEY, project_id TEXT NOT NULL, name TEXT NOT NULL,"
    " description TEXT NOT NULL, created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,"
    " revision INTEGER NOT NULL, tags TEXT NOT NULL DEFAULT '[]', admin_state_up INTEGER NOT NULL,"
    " shared INTEGER NOT NULL, port_security INTEGER NOT NULL, mtu INTEGER NOT NULL)",
    "CREATE INDEX networks_project ON networks(project_id)",
    "CREATE TABLE subnets(id TEXT PRIMARY KEY, project_id TEXT NOT NULL, name TEXT NOT NULL,"
    " description TEXT NOT NULL, created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,"
    " revision INTEGER NOT NULL, tags TEXT NOT NULL DEFAULT '[]',"
    " network_id TEXT NOT NULL REFERENCES networks(id), ip_version INTEGER NOT NULL,"
    " cidr TEXT NOT NULL, gateway_ip TEXT, enable_dhcp INTEGER NOT NULL, pools TEXT NOT NULL,"
    " dns TEXT NOT NULL, routes TEXT NOT NULL, ipv6_ra_mode TEXT, ipv6_address_mode TEXT)",
    "CREATE INDEX subnets_network ON subnets(network_id)",
    "CREATE TABLE ports(id TEXT PRIMARY KEY, project_id TEXT NOT NULL, name TEXT NOT NULL,"
    " description TEXT NOT NULL, created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,"
    " revision INTEGER NOT NULL, tags TEXT NOT NULL DEFAULT '[]',"
    " network_id TEXT NOT NULL REFERENCES networks(id), mac TEXT NOT NULL,"
    " admin_state_up INTEGER NOT NULL, status TEXT NOT NULL, device_id TEXT NOT NULL,"
    " device_owner TEXT NOT NULL, host_id TEXT NOT NULL, vnic_type TEXT NOT NULL,"
    " profile TEXT NOT NULL, port_security INTEGER NOT NULL, created_by_nova INTEGER NOT NULL,"
    " pairs TEXT NOT NULL, UNIQUE(network_id, mac))",
    "CREATE INDEX ports_device ON ports(device_id)",
    "CREATE INDEX ports_project ON ports(project_id)",
    "CREATE TABLE ip_allocations(subnet_id TEXT NOT NULL REFERENCES subnets(id),"
    " address TEXT NOT NULL, port_id TEXT NOT NULL REFERENCES ports(id) ON DELETE CASCADE,"
    " position INTEGER NOT NULL, PRIMARY KEY(subnet_id, address)) WITHOUT ROWID",
    "CREATE INDEX ip_allocations_port ON ip_allocations(port_id)",
    "CREATE TABLE security_groups(id TEXT PRIMARY KEY, project_id TEXT NOT NULL,"
    " name TEXT NOT NULL, description TEXT NOT NULL, created_ns INTEGER NOT NULL,"
    " updated_ns INTEGER NOT NULL, revision INTEGER NOT NULL, tags TEXT NOT NULL DEFAULT '[]',"
    " stateful INTEGER NOT NULL)",
    "CREATE UNIQUE INDEX security_groups_default ON security_groups(project_id)"
    " WHERE name = 'default'",
    "CREATE INDEX security_groups_project ON security_groups(project_id)",
    "CREATE TABLE security_group_rules(id TEXT PRIMARY KEY, project_id TEXT NOT NULL,"
    " security_group_id TEXT NOT NULL REFERENCES security_groups(id) ON DELETE CASCADE,"
    " description TEXT NOT NULL, created_ns INTEGER NOT NULL, ingress INTEGER NOT NULL,"
    " ip_version INTEGER NOT NULL, protocol TEXT, port_min INTEGER, port_max INTEGER,"
    " remote_prefix TEXT,"
    " remote_group_id TEXT REFERENCES security_groups(id) ON DELETE CASCADE)",
    "CREATE INDEX security_group_rules_group ON security_group_rules(security_group_id)",
    "CREATE TABLE port_security_groups(port_id TEXT NOT NULL REFERENCES ports(id) ON DELETE "
    "CASCADE,"
    " security_group_id TEXT NOT NULL REFERENCES security_groups(id),"
    " PRIMARY KEY(port_id, security_group_id)) WITHOUT ROWID",
    "CREATE INDEX port_security_groups_group ON port_security_groups(security_group_id)",
    "CREATE TABLE network_quotas(project_id TEXT NOT NULL, resource TEXT NOT NULL,"
    " hard_limit INTEGER NOT NULL, PRIMARY KEY(project_id, resource)) WITHOUT ROWID",
};

constexpr std::string_view kBaseColumns =
    "id, project_id, name, description, created_ns, updated_ns, revision, tags";
constexpr size_t kBaseColumnCount = 8;

// Collects "column IN (?, ?)" conditions and their values.
class Where {
public:
    void in(std::string_view column, const std::vector<std::string>& values) {
        if (values.empty()) {
            return;
        }
        std::string marks;
        for (const std::string& value : values) {
            marks += marks.empty() ? "?" : ", ?";
            values_.emplace_back(value);
        }
        text_ += fmt::format("{}{} IN ({})", text_.empty() ? " WHERE " : " AND ", column, marks);
    }
    const std::string& text() const { return text_; }
    const std::vector<SqlValue>& values() const { return values_; }

private:
    std::string text_;
    std::vector<SqlValue> values_;
};

std::string encode(const std::vector<std::string>& items) {
    return Json::array_of(items).dump();
}

std::vector<std::string> decode(const std::string& text) {
    std::vector<std::string> items;
    const auto json = Json::parse(text);
    if (json.ok() && json->is_array()) {
        for (const Json& item : json->as_array()) {
            items.push_back(item.is_string() ? item.as_string() : "");
        }
    }
    return items;
}

// Lists of pairs are stored as flat arrays: [first, second, first, second ...].
template <class Pair, class First, class Second>
std::string encode_pairs(const std::vector<Pair>& pairs, First first, Second second) {
    std::vector<std::string> flat;
    for (const Pair& pair : pairs) {
        flat.push_back(pair.*first);
        flat.push_back(pair.*second);
    }
    return encode(flat);
}

template <class Pair>
std::vector<Pair> decode_pairs(const std::string& text) {
    std::vector<Pair> pairs;
    const auto flat = decode(text);
    for (size_t i = 0; i + 1 < flat.size(); i += 2) {
        pairs.push_back({flat[i], flat[i + 1]});
    }
    return pairs;
}

void read_base(const SqlRow& row, NetworkRecordBase& base) {
    base.id = row.text(0);
    base.project_id = row.text(1);
    base.name = row.text(2);
    base.description = row.text(3);
    base.created_ns = row.integer(4);
    base.updated_ns = row.integer(5);
    base.revision = row.integer(6);
    base.tags = decode(row.text(7));
}

// Rows of `table` with the base columns and `columns`.
Result<std::vector<SqlRow>> select(SqlSession& sql, std::string_view table,
                                   std::string_view columns, const Where& where) {
    return sql.query_values(fmt::format("SELECT {}, {} FROM {}{} ORDER BY rowid", kBaseColumns,
                                        columns, table, where.text()),
                            where.values());
}

// The base columns' values, then `more`.
std::vector<SqlValue> values_of(const NetworkRecordBase& base, std::vector<SqlValue> more) {
    std::vector<SqlValue> values = {base.id,          base.project_id,  base.name,
                                    base.description, base.created_ns,  base.updated_ns,
                                    base.revision,    encode(base.tags)};
    values.insert(values.end(), more.begin(), more.end());
    return values;
}

Result<void> insert(SqlSession& sql, std::string_view table, std::string_view columns,
                    const std::vector<SqlValue>& values) {
    std::string marks = "?";
    for (size_t i = 1; i < values.size(); ++i) {
        marks += ", ?";
    }
    TRY(sql.run_values(
        fmt::format("INSERT INTO {}({}, {}) VALUES({})", table, kBaseColumns, columns, marks),
        values));
    return {};
}

// "UPDATE table SET name = ?, ..., more WHERE id = ?"; `assignments` like "mtu = ?, shared = ?".
Result<void> update(SqlSession& sql, std::string_view table, std::string_view assignments,
                    const NetworkRecordBase& base, std::vector<SqlValue> more) {
    std::vector<SqlValue> values = {base.name, base.description, base.updated_ns, base.revision};
    values.insert(values.end(), more.begin(), more.end());
    values.emplace_back(base.id);
    TRY(sql.run_values(fmt::format("UPDATE {} SET name = ?, description = ?, updated_ns = ?,"
                                   " revision = ?, {} WHERE id = ?",
                                   table, assignments),
                       values));
    return {};
}

SqlValue optional_value(const std::optional<std::string>& text) {
    return text ? SqlValue(*text) : SqlValue(std::monostate());
}

SqlValue optional_value(const std::optional<int64_t>& number) {
    return number ? SqlValue(*number) : SqlValue(std::monostate());
}

SqlValue flag(bool value) {
    return static_cast<int64_t>(value);
}

std::optional<int64_t> optional_integer(const SqlRow& row, size_t index) {
    return row.is_null(index) ? std::nullopt : std::optional(row.integer(index));
}

}  // namespace

Result<void> migrate(Database& database) {
    return database.migrate("network", kSchema);
}

Result<std::vector<Network>> list_networks(SqlSession& sql, const RecordFilter& filter) {
    Where where;
    where.in("id", filter.ids);
    where.in("id", filter.network_ids);
    where.in("project_id", filter.project_ids);
    std::vector<Network> networks;
    std::map<std::string, size_t> index;
    for (const SqlRow& row :
         TRY(select(sql, "networks", "admin_state_up, shared, port_security, mtu", where))) {
        Network network;
        read_base(row, network);
        network.admin_state_up = row.integer(kBaseColumnCount) != 0;
        network.shared = row.integer(kBaseColumnCount + 1) != 0;
        network.port_security = row.integer(kBaseColumnCount + 2) != 0;
        network.mtu = row.integer(kBaseColumnCount + 3);
        index[network.id] = networks.size();
        networks.push_back(std::move(network));
    }
    Where of_networks;
    if (networks.size() == 1) {
        of_networks.in("network_id", {networks.front().id});
    }
    for (const SqlRow& row : TRY(sql.query_values(
             "SELECT id, network_id FROM subnets" + of_networks.text() + " ORDER BY rowid",
             of_networks.values()))) {
        if (const auto found = index.find(row.text(1)); found != index.end()) {
            networks[found->second].subnet_ids.push_back(row.text(0));
        }
    }
    return networks;
}

Result<void> insert_network(SqlSession& sql, const Network& network) {
    return insert(sql, "networks", "admin_state_up, shared, port_security, mtu",
                  values_of(network, {flag(network.admin_state_up), flag(network.shared),
                                      flag(network.port_security), network.mtu}));
}

Result<void> update_network(SqlSession& sql, const Network& network) {
    return update(sql, "networks", "admin_state_up = ?, shared = ?, port_security = ?, mtu = ?",
                  network,
                  {flag(network.admin_state_up), flag(network.shared), flag(network.port_security),
                   network.mtu});
}

Result<void> delete_network(SqlSession& sql, const std::string& id) {
    TRY(sql.run("DELETE FROM networks WHERE id = ?", id));
    return {};
}

Result<std::vector<Subnet>> list_subnets(SqlSession& sql, const RecordFilter& filter) {
    Where where;
    where.in("id", filter.ids);
    where.in("project_id", filter.project_ids);
    where.in("network_id", filter.network_ids);
    std::vector<Subnet> subnets;
    for (const SqlRow& row :
         TRY(select(sql, "subnets",
                    "network_id, ip_version, cidr, gateway_ip, enable_dhcp, pools, dns, routes,"
                    " ipv6_ra_mode, ipv6_address_mode",
                    where))) {
        Subnet subnet;
        size_t column = kBaseColumnCount;
        read_base(row, subnet);
        subnet.network_id = row.text(column++);
        subnet.ip_version = static_cast<int>(row.integer(column++));
        subnet.cidr = row.text(column++);
        subnet.gateway_ip = row.text_or_null(column++);
        subnet.enable_dhcp = row.integer(column++) != 0;
        subnet.allocation_pools = decode_pairs<AllocationPool>(row.text(column++));
        subnet.dns_nameservers = decode(row.text(column++));
        subnet.host_routes = decode_pairs<HostRoute>(row.text(column++));
        subnet.ipv6_ra_mode = row.text_or_null(column++);
        subnet.ipv6_address_mode = row.text_or_null(column++);
        subnets.push_back(std::move(subnet));
    }
    return subnets;
}

Result<void> insert_subnet(SqlSession& sql, const Subnet& subnet) {
    return insert(
        sql, "subnets",
        "network_id, ip_version, cidr, gateway_ip, enable_dhcp, pools, dns, routes, ipv6_ra_mode,"
        " ipv6_address_mode",
        values_of(
            subnet,
            {subnet.network_id, static_cast<int64_t>(subnet.ip_version), subnet.cidr,
             optional_value(subnet.gateway_ip), flag(subnet.enable_dhcp),
             encode_pairs(subnet.allocation_pools, &AllocationPool::start, &AllocationPool::end),
             encode(subnet.dns_nameservers),
             encode_pairs(subnet.host_routes, &HostRoute::destination, &HostRoute::next_hop),
             optional_value(subnet.ipv6_ra_mode), optional_value(subnet.ipv6_address_mode)}));
}

Result<void> update_subnet(SqlSession& sql, const Subnet& subnet) {
    return update(
        sql, "subnets", "gateway_ip = ?, enable_dhcp = ?, pools = ?, dns = ?, routes = ?", subnet,
        {optional_value(subnet.gateway_ip), flag(subnet.enable_dhcp),
         encode_pairs(subnet.allocation_pools, &AllocationPool::start, &AllocationPool::end),
         encode(subnet.dns_nameservers),
         encode_pairs(subnet.host_routes, &HostRoute::destination, &HostRoute::next_hop)});
}

Result<void> delete_subnet(SqlSession& sql, const std::string& id) {
    TRY(sql.run("DELETE FROM subnets WHERE id = ?", id));
    return {};
}

namespace {

constexpr std::string_view kPortColumns =
    "network_id, mac, admin_state_up, status, device_id, device_owner, host_id, vnic_type, profile,"
    " port_security, created_by_nova, pairs";

Port read_port(const SqlRow& row) {
    Port port;
    size_t column = kBaseColumnCount;
    read_base(row, port);
    port.network_id = row.text(column++);
    port.mac_address = row.text(column++);
    port.admin_state_up = row.integer(column++) != 0;
    port.status = row.text(column++);
    port.device_id = row.text(column++);
    port.device_owner = row.text(column++);
    port.host_id = row.text(column++);
    port.vnic_type = row.text(column++);
    port.profile = row.text(column++);
    port.port_security = row.integer(column++) != 0;
    port.created_by_nova = row.integer(column++) != 0;
    port.allowed_address_pairs = decode_pairs<AddressPair>(row.text(column++));
    return port;
}

Result<void> insert_port_children(SqlSession& sql, const Port& port) {
    int64_t position = 0;
    for (const PortAddress& address : port.fixed_ips) {
        TRY(sql.run(
            "INSERT INTO ip_allocations(subnet_id, address, port_id, position) VALUES(?, ?, ?, ?)",
            address.subnet_id, address.ip_address, port.id, position++));
    }
    for (const std::string& group_id : port.security_group_ids) {
        TRY(
            sql.run("INSERT OR IGNORE INTO port_security_groups(port_id, security_group_id)"
                    " VALUES(?, ?)",
                    port.id, group_id));
    }
    return {};
}

// Fills addresses and groups of many ports with one query each.
Result<void> read_port_children(SqlSession& sql, std::vector<Port>& ports) {
    std::map<std::string, Port*> by_id;
    for (Port& port : ports) {
        by_id[port.id] = &port;
    }
    Where where;
    if (ports.size() <= 100) {
        std::vector<std::string> ids;
        for (const Port& port : ports) {
            ids.push_back(port.id);
        }
        where.in("port_id", ids);
    }
    if (ports.empty()) {
        return {};
    }
    for (const SqlRow& row :
         TRY(sql.query_values("SELECT port_id, subnet_id, address FROM ip_allocations" +
                                  where.text() + " ORDER BY port_id, position",
                              where.values()))) {
        if (const auto found = by_id.find(row.text(0)); found != by_id.end()) {
            found->second->fixed_ips.push_back({row.text(1), row.text(2)});
        }
    }
    for (const SqlRow& row : TRY(sql.query_values(
             "SELECT port_id, security_group_id FROM port_security_groups" + where.text(),
             where.values()))) {
        if (const auto found = by_id.find(row.text(0)); found != by_id.end()) {
            found->second->security_group_ids.push_back(row.text(1));
        }
    }
    return {};
}

}  // namespace

Result<std::vector<Port>> list_ports(SqlSession& sql, const RecordFilter& filter) {
    Where where;
    where.in("id", filter.ids);
    where.in("project_id", filter.project_ids);
    where.in("network_id", filter.network_ids);
    where.in("device_id", filter.device_ids);
    std::vector<Port> ports;
    for (const SqlRow& row : TRY(select(sql, "ports", kPortColumns, where))) {
        ports.push_back(read_port(row));
    }
    TRY(read_port_children(sql, ports));
    return ports;
}

Result<void> insert_port(SqlSession& sql, const Port& port) {
    TRY(insert(
        sql, "ports", kPortColumns,
        values_of(port, {port.network_id, port.mac_address, flag(port.admin_state_up), port.status,
                         port.device_id, port.device_owner, port.host_id, port.vnic_type,
                         port.profile, flag(port.port_security), flag(port.created_by_nova),
                         encode_pairs(port.allowed_address_pairs, &AddressPair::mac,
                                      &AddressPair::cidr)})));
    return insert_port_children(sql, port);
}

Result<void> update_port(SqlSession& sql, const Port& port) {
    TRY(update(sql, "ports",
               "mac = ?, admin_state_up = ?, status = ?, device_id = ?, device_owner = ?,"
               " host_id = ?, vnic_type = ?, profile = ?, port_security = ?, created_by_nova = ?,"
               " pairs = ?",
               port,
               {port.mac_address, flag(port.admin_state_up), port.status, port.device_id,
                port.device_owner, port.host_id, port.vnic_type, port.profile,
                flag(port.port_security), flag(port.created_by_nova),
                encode_pairs(port.allowed_address_pairs, &AddressPair::mac, &AddressPair::cidr)}));
    TRY(sql.run("DELETE FROM ip_allocations WHERE port_id = ?", port.id));
    TRY(sql.run("DELETE FROM port_security_groups WHERE port_id = ?", port.id));
    return insert_port_children(sql, port);
}

Result<void> delete_port(SqlSession& sql, const std::string& id) {
    TRY(sql.run("DELETE FROM ports WHERE id = ?", id));
    return {};
}

Result<void> set_port_status(SqlSession& sql, const std::string& id, const std::string& status) {
    TRY(sql.run("UPDATE ports SET status = ? WHERE id = ?", status, id));
    return {};
}

Result<std::string> address_owner(SqlSession& sql, const std::string& subnet_id,
                                  const std::string& address) {
    const auto row =
        TRY(sql.query_one("SELECT port_id FROM ip_allocations WHERE subnet_id = ? AND address = ?",
                          subnet_id, address));
    return row ? row->text(0) : std::string();
}

Result<std::vector<std::string>> group_member_addresses(SqlSession& sql,
                                                        const std::string& group_id) {
    std::vector<std::string> addresses;
    for (const SqlRow& row :
         TRY(sql.query("SELECT address FROM ip_allocations JOIN port_security_groups USING(port_id)"
                       " WHERE security_group_id = ?",
                       group_id))) {
        addresses.push_back(row.text(0));
    }
    for (const SqlRow& row :
         TRY(sql.query("SELECT pairs FROM ports JOIN port_security_groups ON port_id = id"
                       " WHERE security_group_id = ? AND pairs <> '[]'",
                       group_id))) {
        for (const AddressPair& pair : decode_pairs<AddressPair>(row.text(0))) {
            addresses.push_back(pair.cidr);
        }
    }
    return addresses;
}

Result<std::vector<DhcpHostSpec>> dhcp_hosts(SqlSession& sql, const std::string& network_id) {
    std::vector<DhcpHostSpec> hosts;
    for (const SqlRow& row : TRY(sql.query(
             "SELECT mac, address FROM ip_allocations JOIN ports ON port_id = ports.id"
             " WHERE ports.network_id = ? AND device_owner <> 'network:dhcp' ORDER BY address",
             network_id))) {
        std::string name = "host-" + row.text(1);
        for (char& c : name) {
            c = c == '.' || c == ':' ? '-' : c;
        }
        hosts.push_back({row.text(0), row.text(1), std::move(name)});
    }
    return hosts;
}

namespace {

constexpr std::string_view kRuleColumns =
    "id, project_id, security_group_id, description, created_ns, ingress, ip_version, protocol,"
    " port_min, port_max, remote_prefix, remote_group_id";

SecurityGroupRule read_rule(const SqlRow& row) {
    SecurityGroupRule rule;
    rule.id = row.text(0);
    rule.project_id = row.text(1);
    rule.security_group_id = row.text(2);
    rule.description = row.text(3);
    rule.created_ns = row.integer(4);
    rule.ingress = row.integer(5) != 0;
    rule.ip_version = static_cast<int>(row.integer(6));
    rule.protocol = row.text_or_null(7);
    rule.port_min = optional_integer(row, 8);
    rule.port_max = optional_integer(row, 9);
    rule.remote_prefix = row.text_or_null(10);
    rule.remote_group_id = row.text_or_null(11);
    return rule;
}

}  // namespace

Result<std::vector<SecurityGroup>> list_security_groups(SqlSession& sql,
                                                        const RecordFilter& filter) {
    Where where;
    where.in("id", filter.ids);
    where.in("id", filter.security_group_ids);
    where.in("project_id", filter.project_ids);
    std::vector<SecurityGroup> groups;
    std::map<std::string, size_t> index;
    for (const SqlRow& row : TRY(select(sql, "security_groups", "stateful", where))) {
        SecurityGroup group;
        read_base(row, group);
        group.stateful = row.integer(kBaseColumnCount) != 0;
        index[group.id] = groups.size();
        groups.push_back(std::move(group));
    }
    Where of_groups;
    if (groups.size() == 1) {
        of_groups.in("security_group_id", {groups.front().id});
    }
    for (const SqlRow& row :
         TRY(sql.query_values(fmt::format("SELECT {} FROM security_group_rules{} ORDER BY rowid",
                                          kRuleColumns, of_groups.text()),
                              of_groups.values()))) {
        if (const auto found = index.find(row.text(2)); found != index.end()) {
            groups[found->second].rules.push_back(read_rule(row));
        }
    }
    return groups;
}

Result<void> insert_security_group(SqlSession& sql, const SecurityGroup& group) {
    TRY(insert(sql, "security_groups", "stateful", values_of(group, {flag(group.stateful)})));
    for (const SecurityGroupRule& rule : group.rules) {
        TRY(insert_rule(sql, rule));
    }
    return {};
}

Result<void> update_security_group(SqlSession& sql, const SecurityGroup& group) {
    return update(sql, "security_groups", "stateful = ?", group, {flag(group.stateful)});
}

Result<void> delete_security_group(SqlSession& sql, const std::string& id) {
    TRY(sql.run("DELETE FROM security_groups WHERE id = ?", id));
    return {};
}

Result<void> insert_rule(SqlSession& sql, const SecurityGroupRule& rule) {
    TRY(sql.run_values(
        fmt::format(
            "INSERT INTO security_group_rules({}) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            kRuleColumns),
        {rule.id, rule.project_id, rule.security_group_id, rule.description, rule.created_ns,
         flag(rule.ingress), static_cast<int64_t>(rule.ip_version), optional_value(rule.protocol),
         optional_value(rule.port_min), optional_value(rule.port_max),
         optional_value(rule.remote_prefix), optional_value(rule.remote_group_id)}));
    return {};
}

Result<void> delete_rule(SqlSession& sql, const std::string& id) {
    TRY(sql.run("DELETE FROM security_group_rules WHERE id = ?", id));
    return {};
}

Result<std::optional<SecurityGroupRule>> find_rule(SqlSession& sql, const std::string& id) {
    const auto row = TRY(sql.query_one(
        fmt::format("SELECT {} FROM security_group_rules WHERE id = ?", kRuleColumns), id));
    return row ? std::optional(read_rule(*row)) : std::optional<SecurityGroupRule>();
}

Result<int64_t> count(SqlSession& sql, const std::string& table, const std::string& project_id) {
    const auto row = TRY(sql.query_one(
        fmt::format("SELECT COUNT(*) FROM {} WHERE project_id = ?", table), project_id));
    return row ? row->integer(0) : 0;
}

Result<void> set_tags(SqlSession& sql, const std::string& table, const std::string& id,
                      const std::vector<std::string>& tags, int64_t now_ns) {
    TRY(sql.run(fmt::format("UPDATE {} SET tags = ?, updated_ns = ?, revision = revision + 1"
                            " WHERE id = ?",
                            table),
                encode(tags), now_ns, id));
    return {};
}

Result<std::optional<int64_t>> quota_limit(SqlSession& sql, const std::string& project_id,
                                           const std::string& resource) {
    const auto row = TRY(
        sql.query_one("SELECT hard_limit FROM network_quotas WHERE project_id = ? AND resource = ?",
                      project_id, resource));
    return row ? std::optional(row->integer(0)) : std::optional<int64_t>();
}

Result<void> set_quota_limit(SqlSession& sql, const std::string& project_id,
                             const std::string& resource, int64_t limit) {
    TRY(
        sql.run("INSERT INTO network_quotas(project_id, resource, hard_limit) VALUES(?, ?, ?)"
                " ON CONFLICT(project_id, resource) DO UPDATE SET hard_limit = excluded.hard_limit",
                project_id, resource, limit));
    return {};
}

Result<void> clear_quota(SqlSession& sql, const std::string& project_id) {
    TRY(sql.run("DELETE FROM network_quotas WHERE project_id = ?", project_id));
    return {};
}

}  // namespace kumoi::compute::network_store
