// NetworkService's security groups and rules, with Neutron's checks.
#include <algorithm>
#include <charconv>

#include "compute/network/ip_address.h"
#include "compute/network/network_service.h"
#include "compute/network/network_store.h"

namespace kumoi::compute {

using namespace network_errors;  // NOLINT: this folder's own names

namespace {

constexpr const char* kDefaultGroup = "default";

Error invalid_rule(std::string_view fault, std::string message) {
    return Error::invalid("{}", message).with_fault(std::string(fault));
}

bool has_ports(std::string_view protocol) {
    for (const std::string_view name :
         {"tcp", "udp", "sctp", "dccp", "udplite", "6", "17", "132", "33", "136"}) {
        if (protocol == name) {
            return true;
        }
    }
    return false;
}

bool is_icmp(std::string_view protocol) {
    return protocol == "icmp" || protocol == "1" || protocol == "icmpv6" ||
           protocol == "ipv6-icmp" || protocol == "58";
}

// A name of Neutron's list, or a number 0 to 255.
bool known_protocol(const std::string& protocol) {
    for (const char* name :
         {"ah",         "dccp",      "egp",        "esp",        "gre",       "icmp",
          "icmpv6",     "igmp",      "ipip",       "ipv6-encap", "ipv6-frag", "ipv6-icmp",
          "ipv6-nonxt", "ipv6-opts", "ipv6-route", "ospf",       "pgm",       "rsvp",
          "sctp",       "tcp",       "udp",        "udplite",    "vrrp"}) {
        if (protocol == name) {
            return true;
        }
    }
    int number = -1;
    const auto [end, failure] =
        std::from_chars(protocol.data(), protocol.data() + protocol.size(), number);
    return failure == std::errc() && end == protocol.data() + protocol.size() && number >= 0 &&
           number <= 255;
}

Result<void> check_icmp(const SecurityGroupRule& rule) {
    for (const auto& [field, value] :
         {std::pair("port_range_min", rule.port_min), std::pair("port_range_max", rule.port_max)}) {
        if (value && (*value < 0 || *value > 255)) {
            return invalid_rule(
                "SecurityGroupInvalidIcmpValue",
                fmt::format("Invalid value for ICMP {}: {}. It must be 0 to 255.", field, *value));
        }
    }
    if (rule.port_max && !rule.port_min) {
        return invalid_rule("SecurityGroupMissingIcmpType",
                            fmt::format("ICMP code (port-range-max) {} is provided but ICMP type "
                                        "(port-range-min) is missing.",
                                        *rule.port_max));
    }
    return {};
}

Result<void> check_protocol_and_ports(const SecurityGroupRule& rule) {
    if (!rule.protocol) {
        return rule.port_min || rule.port_max
                   ? invalid_rule("SecurityGroupProtocolRequiredWithPorts",
                                  "Must also specify protocol if port range is given.")
                   : Result<void>();
    }
    if (!known_protocol(*rule.protocol)) {
        return invalid_rule("SecurityGroupRuleInvalidProtocol",
                            fmt::format("Security group rule protocol {} not supported. It must be "
                                        "a protocol name or a number 0 to 255.",
                                        *rule.protocol));
    }
    const bool ipv6_only = rule.protocol->starts_with("ipv6-") || *rule.protocol == "icmpv6";
    if (ipv6_only && rule.ip_version == 4) {
        return invalid_rule("SecurityGroupEthertypeConflictWithProtocol",
                            fmt::format("Invalid ethertype IPv4 for protocol {}.", *rule.protocol));
    }
    if (is_icmp(*rule.protocol)) {
        return check_icmp(rule);
    }
    if (!rule.port_min && !rule.port_max) {
        return {};
    }
    if (!has_ports(*rule.protocol)) {
        return invalid_rule("SecurityGroupInvalidProtocolForPort",
                            fmt::format("Invalid protocol {} for port range, only supported for "
                                        "TCP, UDP, UDPLITE, SCTP and DCCP.",
                                        *rule.protocol));
    }
    if (!rule.port_min || !rule.port_max || *rule.port_min > *rule.port_max || *rule.port_min < 1 ||
        *rule.port_max > 65'535) {
        return invalid_rule("SecurityGroupInvalidPortRange",
                            "For TCP/UDP protocols, port_range_min must be <= port_range_max, both "
                            "1 to 65535.");
    }
    return {};
}

Result<void> check_remote(SecurityGroupRule& rule) {
    if (rule.remote_prefix && rule.remote_group_id) {
        return invalid_rule("SecurityGroupRemoteGroupAndRemoteIpPrefix",
                            "Only remote_ip_prefix or remote_group_id may be provided.");
    }
    if (!rule.remote_prefix) {
        return {};
    }
    const auto network = IpNetwork::parse(*rule.remote_prefix);
    if (!network) {
        return invalid_input("'" + *rule.remote_prefix + "' is not a valid CIDR");
    }
    if (network->version() != rule.ip_version) {
        return invalid_rule("SecurityGroupRuleParameterConflict",
                            fmt::format("Conflicting value ethertype IPv{} for CIDR {}",
                                        rule.ip_version, *rule.remote_prefix));
    }
    rule.remote_prefix = network->text();
    return {};
}

bool same_match(const SecurityGroupRule& left, const SecurityGroupRule& right) {
    return left.ingress == right.ingress && left.ip_version == right.ip_version &&
           left.protocol == right.protocol && left.port_min == right.port_min &&
           left.port_max == right.port_max && left.remote_prefix == right.remote_prefix &&
           left.remote_group_id == right.remote_group_id;
}

}  // namespace

SecurityGroupRule NetworkService::make_rule(const SecurityGroup& group, bool ingress,
                                            int ip_version) const {
    SecurityGroupRule rule;
    rule.id = new_id();
    rule.project_id = group.project_id;
    rule.security_group_id = group.id;
    rule.created_ns = group.created_ns;
    rule.ingress = ingress;
    rule.ip_version = ip_version;
    return rule;
}

// Neutron's default group: out to everywhere, in from the members.
SecurityGroup NetworkService::make_default_group(const std::string& project_id) {
    SecurityGroup group;
    stamp_new(group);
    group.project_id = project_id;
    group.name = kDefaultGroup;
    group.description = "Default security group";
    for (const int version : {4, 6}) {
        group.rules.push_back(make_rule(group, false, version));
        group.rules.push_back(make_rule(group, true, version));
        group.rules.back().remote_group_id = group.id;
    }
    return group;
}

Result<std::string> NetworkService::default_group(SqlSession& sql, const std::string& project_id) {
    const auto row = TRY(sql.query_one(
        "SELECT id FROM security_groups WHERE project_id = ? AND name = 'default'", project_id));
    if (row) {
        return row->text(0);
    }
    const SecurityGroup group = make_default_group(project_id);
    TRY(network_store::insert_security_group(sql, group));
    return group.id;
}

Result<std::vector<SecurityGroup>> NetworkService::list_security_groups(
    const RequestContext& context, const RecordFilter& filter) {
    RecordFilter narrowed = filter;
    if (!context.is_admin) {
        narrowed.project_ids = {context.project_id};
    }
    const auto read = [&](SqlSession& sql) {
        return network_store::list_security_groups(sql, narrowed);
    };
    auto groups = TRY(database_.read(read));
    const auto is_own_default = [&](const SecurityGroup& group) {
        return group.project_id == context.project_id && group.name == kDefaultGroup;
    };
    if (context.project_id.empty() || !filter.ids.empty() || !filter.security_group_ids.empty() ||
        std::any_of(groups.begin(), groups.end(), is_own_default)) {
        return groups;
    }
    TRY(database_.write([&](SqlSession& sql) { return default_group(sql, context.project_id); }));
    return database_.read(read);
}

Result<SecurityGroup> NetworkService::group_to_change(SqlSession& sql,
                                                      const RequestContext& context,
                                                      const std::string& id) {
    auto groups = TRY(network_store::list_security_groups(sql, {.ids = {id}}));
    if (groups.empty() || (!context.is_admin && groups[0].project_id != context.project_id)) {
        return security_group_not_found(id);
    }
    return std::move(groups[0]);
}

Result<std::vector<SecurityGroup>> NetworkService::create_security_groups(
    const RequestContext& context, const std::vector<SecurityGroup>& requests) {
    return change([&](SqlSession& sql, Changes& changes) -> Result<std::vector<SecurityGroup>> {
        (void)context;
        (void)changes;
        std::vector<SecurityGroup> groups;
        for (const SecurityGroup& request : requests) {
            TRY(default_group(sql, request.project_id));
            if (request.name == kDefaultGroup) {
                return Error::conflict("Default security group already exists.")
                    .with_fault("SecurityGroupDefaultAlreadyExists");
            }
            TRY(check_quota(sql, "security_group", request.project_id));
            SecurityGroup group;
            stamp_new(group);
            group.project_id = request.project_id;
            group.name = request.name;
            group.description = request.description;
            group.stateful = request.stateful;
            group.rules = {make_rule(group, false, 4), make_rule(group, false, 6)};
            TRY(network_store::insert_security_group(sql, group));
            groups.push_back(std::move(group));
        }
        return groups;
    });
}

Result<SecurityGroup> NetworkService::update_security_group(
    const RequestContext& context, const std::string& id, const std::optional<std::string>& name,
    const std::optional<std::string>& description) {
    return change([&](SqlSession& sql, Changes& changes) -> Result<SecurityGroup> {
        (void)changes;
        SecurityGroup group = TRY(group_to_change(sql, context, id));
        if (name && *name != group.name) {
            if (group.name == kDefaultGroup) {
                return Error::conflict("Updating default security group not allowed.")
                    .with_fault("SecurityGroupCannotUpdateDefault");
            }
            if (*name == kDefaultGroup) {
                return Error::conflict("Default security group already exists.")
                    .with_fault("SecurityGroupDefaultAlreadyExists");
            }
        }
        group.name = name.value_or(group.name);
        group.description = description.value_or(group.description);
        stamp_changed(group);
        TRY(network_store::update_security_group(sql, group));
        return group;
    });
}

Result<void> NetworkService::delete_security_group(const RequestContext& context,
                                                   const std::string& id) {
    return change([&](SqlSession& sql, Changes& changes) -> Result<void> {
        const SecurityGroup group = TRY(group_to_change(sql, context, id));
        if (group.name == kDefaultGroup && !context.is_admin) {
            return Error::conflict("Insufficient rights for removing default security group.")
                .with_fault("SecurityGroupCannotRemoveDefault");
        }
        const auto user = TRY(sql.query_one(
            "SELECT port_id FROM port_security_groups WHERE security_group_id = ?", id));
        if (user) {
            return Error::conflict("Security Group {} in use.", id)
                .with_fault("SecurityGroupInUse")
                .with_hint(fmt::format("Port {} is a member", user->text(0)));
        }
        // Rules of other groups that name this one as their remote go with it.
        for (const SqlRow& row :
             TRY(sql.query("SELECT DISTINCT security_group_id FROM security_group_rules"
                           " WHERE remote_group_id = ? AND security_group_id <> ?",
                           id, id))) {
            changes.groups.insert(row.text(0));
        }
        return network_store::delete_security_group(sql, id);
    });
}

Result<std::vector<SecurityGroupRule>> NetworkService::create_rules(
    const RequestContext& context, const std::vector<SecurityGroupRule>& requests) {
    return change([&](SqlSession& sql, Changes& changes) -> Result<std::vector<SecurityGroupRule>> {
        std::vector<SecurityGroupRule> rules;
        for (const SecurityGroupRule& request : requests) {
            rules.push_back(TRY(create_rule(sql, context, request)));
            changes.groups.insert(request.security_group_id);
        }
        return rules;
    });
}

Result<SecurityGroupRule> NetworkService::create_rule(SqlSession& sql,
                                                      const RequestContext& context,
                                                      const SecurityGroupRule& request) {
    SecurityGroup group = TRY(group_to_change(sql, context, request.security_group_id));
    TRY(check_quota(sql, "security_group_rule", group.project_id));
    SecurityGroupRule rule = request;
    rule.id = new_id();
    rule.project_id = group.project_id;
    rule.created_ns = clock_.wall_ns();
    TRY(check_protocol_and_ports(rule));
    TRY(check_remote(rule));
    if (rule.remote_group_id) {
        TRY(group_to_change(sql, context, *rule.remote_group_id));
    }
    for (const SecurityGroupRule& other : group.rules) {
        if (same_match(other, rule)) {
            return Error::conflict("Security group rule already exists. Rule id is {}.", other.id)
                .with_fault("SecurityGroupRuleExists");
        }
    }
    TRY(network_store::insert_rule(sql, rule));
    stamp_changed(group);
    TRY(network_store::update_security_group(sql, group));
    return rule;
}

Result<void> NetworkService::delete_rule(const RequestContext& context, const std::string& id) {
    return change([&](SqlSession& sql, Changes& changes) -> Result<void> {
        const auto rule = TRY(network_store::find_rule(sql, id));
        if (!rule || (!context.is_admin && rule->project_id != context.project_id)) {
            return Error::not_found("Security group rule {} does not exist", id)
                .with_fault("SecurityGroupRuleNotFound");
        }
        changes.groups.insert(rule->security_group_id);
        return network_store::delete_rule(sql, id);
    });
}

Result<std::vector<std::string>> NetworkService::group_ids_by_name(
    SqlSession& sql, const std::string& project_id, const std::vector<std::string>& names) {
    std::vector<std::string> ids;
    for (const std::string& name : names) {
        if (name == kDefaultGroup) {
            ids.push_back(TRY(default_group(sql, project_id)));
            continue;
        }
        const auto rows = TRY(sql.query(
            "SELECT id FROM security_groups WHERE project_id = ? AND (id = ? OR name = ?)",
            project_id, name, name));
        if (rows.empty()) {
            return Error::not_found("Security group {} not found for project {}.", name, project_id)
                .with_fault("SecurityGroupNotFound");
        }
        if (rows.size() > 1) {
            return Error::conflict(
                       "Multiple security_group matches found for name '{}', use an ID "
                       "to be more specific.",
                       name)
                .with_fault("NoUniqueMatch");
        }
        ids.push_back(rows[0].text(0));
    }
    return ids;
}

}  // namespace kumoi::compute
