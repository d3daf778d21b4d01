#include "compute/network/firewall.h"

#include <set>

#include "base/digest.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/subprocess.h"

namespace kumoi::compute {
namespace {

constexpr size_t kBridgeCountMax = 60'000;  // conntrack zones are 16 bits
constexpr int64_t kNftTimeoutMs = 30'000;
constexpr std::string_view kBridgeNetfilterSwitch = "/proc/sys/net/bridge/bridge-nf-call-iptables";

// A check run goes through the kernel's own validation and changes nothing.
bool kernel_accepts(const std::string& script) {
    const auto output = run_command(
        {"nft", "-c", "-f", "-"},
        {.input = script, .timeout_ms = kNftTimeoutMs, .output_max = 64u << 10, .directory = {}});
    return output.ok() && output.value().exit_code == 0;
}

void load_module(const std::string& name) {
    const auto output = run_command({"modprobe", "-q", name});
    if (!output.ok()) {
        log_debug("network", "modprobe cannot be run", {{"module", name}});
    }
}

bool refers_to(const FirewallPort& port, const std::string& group_id) {
    for (const SecurityRule& rule : port.port.rules) {
        if (rule.remote_group_id == group_id) {
            return true;
        }
    }
    return false;
}

// br_netfilter starts with its switch on for every bridge of the host. We turn our bridges on one
// by one, so when it was us who loaded it, the others go back to what they were.
Result<void> load_bridge_netfilter() {
    load_module("br_netfilter");
    if (!path_exists(std::string(kBridgeNetfilterSwitch))) {
        return Error::unsupported(
                   "This kernel can track no connections on bridges: neither nf_conntrack_bridge "
                   "nor "
                   "br_netfilter is there, so security groups cannot be enforced")
            .with_hint("Use a kernel with CONFIG_NF_CONNTRACK_BRIDGE or CONFIG_BRIDGE_NETFILTER");
    }
    for (const char* name : {"iptables", "ip6tables", "arptables"}) {
        const std::string path = std::string("/proc/sys/net/bridge/bridge-nf-call-") + name;
        auto fd = TRY(open_file(path, 1 /* O_WRONLY */));
        TRY(write_all(fd.get(), std::as_bytes(std::span(std::string_view("0")))));
    }
    return {};
}

}  // namespace

Result<StatefulMode> Firewall::detect_mode() {
    TRY(find_program("nft"));
    const std::string probe =
        "add table bridge kumoi-probe\n"
        "add chain bridge kumoi-probe probe { type filter hook prerouting priority 0; }\n"
        "add rule bridge kumoi-probe probe meta ibrname \"kb0\" ct state new accept\n";
    if (kernel_accepts(probe)) {
        return StatefulMode::BridgeConntrack;
    }
    load_module("nf_conntrack_bridge");
    load_module("nft_meta_bridge");
    if (kernel_accepts(probe)) {
        return StatefulMode::BridgeConntrack;
    }
    if (!path_exists(std::string(kBridgeNetfilterSwitch))) {
        TRY(load_bridge_netfilter());
    }
    return StatefulMode::BridgeNetfilter;
}

Result<void> Firewall::apply(const std::string& script) {
    auto outcome = run_checked(
        {"nft", "-f", "-"},
        {.input = script, .timeout_ms = kNftTimeoutMs, .output_max = 64u << 10, .directory = {}});
    if (!outcome.ok()) {
        return std::move(outcome).error().with_context("Changing the packet filter");
    }
    return {};
}

Result<void> Firewall::replace(std::map<std::string, FirewallBridge> bridges,
                               std::map<std::string, FirewallPort> ports,
                               std::map<std::string, std::vector<std::string>> groups) {
    FirewallModel next{model_.mode, model_.nat, {}, std::move(ports), std::move(groups)};
    for (auto& [network_id, bridge] : bridges) {
        bridge.zone = free_zone(next, network_id);
        next.bridges[network_id] = std::move(bridge);
    }
    TRY(apply(render_ruleset(next)));
    model_ = std::move(next);
    return {};
}

Result<void> Firewall::remove_tables() {
    return apply(render_removal());
}

uint16_t Firewall::free_zone(const FirewallModel& model, const std::string& network_id) {
    std::set<uint16_t> used = {0};  // 0 is the host's own
    for (const auto& [id, bridge] : model.bridges) {
        used.insert(bridge.zone);
    }
    uint16_t zone = 0;
    for (const char c : digest_hex(DigestKind::Sha256, network_id).substr(0, 4)) {
        zone = static_cast<uint16_t>(zone << 4 | (c <= '9' ? c - '0' : c - 'a' + 10));
    }
    while (used.contains(zone)) {
        ++zone;
    }
    return zone;
}

Result<void> Firewall::set_bridge(const std::string& network_id, FirewallBridge bridge) {
    FirewallModel next = model_;
    const auto present = model_.bridges.find(network_id);
    if (present == model_.bridges.end() && model_.bridges.size() >= kBridgeCountMax) {
        return Error::exhausted("This host already carries {} networks, the most it can keep apart",
                                model_.bridges.size());
    }
    bridge.zone =
        present == model_.bridges.end() ? free_zone(model_, network_id) : present->second.zone;
    if (present != model_.bridges.end() && present->second == bridge) {
        return {};
    }
    next.bridges[network_id] = std::move(bridge);
    TRY(apply(render_host(next)));
    model_ = std::move(next);
    return {};
}

Result<void> Firewall::remove_bridge(const std::string& network_id) {
    if (!model_.bridges.contains(network_id)) {
        return {};
    }
    FirewallModel next = model_;
    next.bridges.erase(network_id);
    TRY(apply(render_host(next)));
    model_ = std::move(next);
    return {};
}

std::string Firewall::unused_group_removal(FirewallModel& model) const {
    std::set<std::string> used;
    for (const auto& [id, port] : model.ports) {
        for (const SecurityRule& rule : port.port.rules) {
            if (rule.remote_group_id) {
                used.insert(*rule.remote_group_id);
            }
        }
    }
    std::string script;
    for (auto group = model.group_members.begin(); group != model.group_members.end();) {
        if (used.contains(group->first)) {
            ++group;
            continue;
        }
        script += render_group_removal(group->first);
        group = model.group_members.erase(group);
    }
    return script;
}

Result<void> Firewall::set_port(FirewallPort port,
                                const std::map<std::string, std::vector<std::string>>& groups) {
    FirewallModel next = model_;
    std::string script;
    for (const auto& [id, members] : groups) {
        next.group_members[id] = members;
        script += render_group(id, members);
    }
    script += render_port(port);
    next.ports[port.port.id] = std::move(port);
    script += unused_group_removal(next);
    TRY(apply(script));
    model_ = std::move(next);
    return {};
}

Result<void> Firewall::remove_port(const std::string& port_id) {
    const auto found = model_.ports.find(port_id);
    if (found == model_.ports.end()) {
        return {};
    }
    FirewallModel next = model_;
    next.ports.erase(port_id);
    TRY(apply(render_port_removal(found->second) + unused_group_removal(next)));
    model_ = std::move(next);
    return {};
}

Result<void> Firewall::set_group(const std::string& group_id, std::vector<std::string> members) {
    const auto found = model_.group_members.find(group_id);
    if (found == model_.group_members.end() || found->second == members) {
        return {};
    }
    TRY(apply(render_group(group_id, members)));
    found->second = std::move(members);
    return {};
}

bool Firewall::uses_group(const std::string& group_id) const {
    for (const auto& [id, port] : model_.ports) {
        if (refers_to(port, group_id)) {
            return true;
        }
    }
    return false;
}

}  // namespace kumoi::compute
