#include "compute/network/dhcp_server.h"

#include <signal.h>
#include <sys/stat.h>

#include <charconv>
#include <chrono>
#include <set>
#include <sstream>
#include <thread>

#include "base/file.h"
#include "base/log.h"
#include "base/subprocess.h"
#include "compute/network/ip_address.h"

namespace kumoi::compute {
namespace {

constexpr int kLeaseSeconds = 86'400;
constexpr int kStopPollMs = 5;
constexpr int kStopPollCount = 400;  // 2 s, then SIGKILL

bool subnet_serves(const SubnetSpec& subnet) {
    return subnet.dhcp && subnet.host_address.has_value() && IpNetwork::parse(subnet.cidr);
}

std::string conf_text(const NetworkSpec& network, const std::string& bridge,
                      const std::string& folder, bool keep_root) {
    std::string out = "port=0\n";  // no DNS at all
    out += fmt::format("interface={}\nexcept-interface=lo\nbind-interfaces\n", bridge);
    out += "no-hosts\nno-resolv\nno-ping\nquiet-dhcp\nquiet-dhcp6\ndhcp-authoritative\n";
    out += "dhcp-ignore=tag:!known\n";
    out += fmt::format("dhcp-hostsfile={0}/hosts\ndhcp-optsfile={0}/opts\n", folder);
    out +=
        fmt::format("dhcp-leasefile={0}/leases\npid-file={0}/pid\nlog-facility={0}/log\n", folder);
    out += fmt::format("dhcp-lease-max={}\n", 65'536);
    if (keep_root) {
        out += "user=root\ngroup=root\n";
    }
    for (const SubnetSpec& subnet : network.subnets) {
        if (!subnet_serves(subnet)) {
            continue;
        }
        const IpNetwork cidr = *IpNetwork::parse(subnet.cidr);
        if (cidr.version() == 4) {
            out += fmt::format("dhcp-range=set:subnet-{},{},static,{},{}s\n", subnet.id,
                               cidr.address().text(), cidr.netmask().text(), kLeaseSeconds);
        } else {
            out += fmt::format("dhcp-range=set:subnet-{},{},static,{},{}s\n", subnet.id,
                               cidr.address().text(), cidr.prefix_length(), kLeaseSeconds);
        }
    }
    return out;
}

std::string hosts_text(const NetworkSpec& network) {
    std::string out;
    for (const DhcpHostSpec& host : network.dhcp_hosts) {
        const bool ipv6 = host.address.find(':') != std::string::npos;
        out += ipv6 ? fmt::format("{},[{}],{}\n", host.mac, host.address, host.host_name)
                    : fmt::format("{},{},{}\n", host.mac, host.address, host.host_name);
    }
    return out;
}

// RFC 3442: with option 121 a client ignores option 3, so the default route is repeated in it.
std::string classless_routes(const SubnetSpec& subnet) {
    std::string routes = fmt::format("169.254.169.254/32,{}", *subnet.host_address);
    for (const auto& [destination, next_hop] : subnet.host_routes) {
        routes += fmt::format(",{},{}", destination, next_hop);
    }
    if (subnet.gateway) {
        routes += fmt::format(",0.0.0.0/0,{}", *subnet.gateway);
    }
    return routes;
}

std::string options_text(const NetworkSpec& network) {
    std::string out;
    for (const SubnetSpec& subnet : network.subnets) {
        if (!subnet_serves(subnet)) {
            continue;
        }
        const std::string tag = "tag:subnet-" + subnet.id;
        std::string dns;
        for (const std::string& server : subnet.dns_servers) {
            dns += subnet.ip_version == 4 ? "," + server : ",[" + server + "]";
        }
        if (subnet.ip_version == 6) {
            out += fmt::format("{},option6:dns-server{}\n", tag, dns);
            continue;
        }
        // An option without value is one dnsmasq must not make up by itself.
        out +=
            fmt::format("{},option:router{}\n", tag, subnet.gateway ? "," + *subnet.gateway : "");
        out += fmt::format("{},option:dns-server{}\n", tag, dns);
        out += fmt::format("{},option:mtu,{}\n", tag, network.mtu);
        const std::string routes = classless_routes(subnet);
        out += fmt::format("{},option:classless-static-route,{}\n", tag, routes);
        out += fmt::format("{},249,{}\n", tag, routes);  // the same for old Windows guests
    }
    return out;
}

// dnsmasq gives up root after start, and must reach its files again at SIGHUP.
bool others_can_reach(const std::string& folder) {
    std::string path;
    std::stringstream parts(folder);
    for (std::string part; std::getline(parts, part, '/');) {
        path += part + "/";
        struct stat status {};
        if (::stat(path.c_str(), &status) != 0 || (status.st_mode & S_IXOTH) == 0) {
            return false;
        }
    }
    return true;
}

}  // namespace

bool serves_dhcp(const NetworkSpec& network) {
    for (const SubnetSpec& subnet : network.subnets) {
        if (subnet_serves(subnet)) {
            return true;
        }
    }
    return false;
}

DhcpFiles render_dhcp_files(const NetworkSpec& network, const std::string& bridge,
                            const std::string& folder, bool keep_root) {
    return {conf_text(network, bridge, folder, keep_root), hosts_text(network),
            options_text(network)};
}

std::string without_stale_leases(const std::string& leases,
                                 const std::vector<DhcpHostSpec>& hosts) {
    std::set<std::pair<std::string, std::string>> wanted;
    std::set<std::string> addresses;
    for (const DhcpHostSpec& host : hosts) {
        wanted.emplace(host.address, host.mac);
        addresses.insert(host.address);
    }
    std::string kept;
    std::stringstream lines(leases);
    for (std::string line; std::getline(lines, line);) {
        std::stringstream fields(line);  // expiry, MAC, address, name, client id
        std::string expiry;
        std::string mac;
        std::string address;
        fields >> expiry >> mac >> address;
        if (addresses.contains(address) && !wanted.contains({address, mac}) &&
            address.find(':') == std::string::npos) {
            continue;
        }
        kept += line + "\n";
    }
    return kept;
}

pid_t DhcpServer::running_pid() const {
    const auto text = read_file(path("pid"), 64);
    pid_t pid = 0;
    if (!text.ok() ||
        std::from_chars(text->data(), text->data() + text->size(), pid).ec != std::errc() ||
        pid <= 1 || !process_alive(pid)) {
        return 0;
    }
    // A pid may have been used again by another program; ours has our file on its command line.
    const auto command = read_file(fmt::format("/proc/{}/cmdline", pid), 64u << 10);
    const bool ours =
        command.ok() && command->find("--conf-file=" + path("conf")) != std::string::npos;
    return ours ? pid : 0;
}

Result<DhcpFiles> DhcpServer::read_files() const {
    return DhcpFiles{read_file(path("conf")).value_or(""), read_file(path("hosts")).value_or(""),
                     read_file(path("opts")).value_or("")};
}

// Only what changed: each write waits for the disk.
Result<void> DhcpServer::write_files(const DhcpFiles& files, const DhcpFiles& present) const {
    if (files.conf != present.conf) {
        TRY(write_file_atomic(path("conf"), files.conf));
    }
    if (files.hosts != present.hosts || !path_exists(path("hosts"))) {
        TRY(write_file_atomic(path("hosts"), files.hosts));
    }
    if (files.options != present.options || !path_exists(path("opts"))) {
        TRY(write_file_atomic(path("opts"), files.options));
    }
    return {};
}

Result<void> DhcpServer::update(const NetworkSpec& network) {
    if (!serves_dhcp(network)) {
        return stop();
    }
    TRY(make_directories(folder_));
    const DhcpFiles wanted =
        render_dhcp_files(network, bridge_, folder_, !others_can_reach(folder_));
    const DhcpFiles present = TRY(read_files());
    const pid_t pid = running_pid();
    const std::string leases = read_file(path("leases")).value_or("");
    const std::string kept = without_stale_leases(leases, network.dhcp_hosts);
    if (pid != 0 && wanted == present && kept == leases) {
        return {};
    }
    TRY(write_files(wanted, present));
    if (pid != 0 && wanted.conf == present.conf && kept == leases) {
        return ::kill(pid, SIGHUP) == 0 ? Result<void>()
                                        : Error::from_errno(errno, "reloading dnsmasq");
    }
    if (pid != 0) {
        TRY(terminate(pid));
    }
    if (kept != leases) {
        TRY(write_file_atomic(path("leases"), kept));
    }
    return start();
}

Result<void> DhcpServer::start() {
    const std::string program = TRY_CONTEXT(find_program("dnsmasq"), "Serving DHCP on {}", bridge_);
    // It daemonises itself after binding its socket, so a failure is known here.
    TRY_CONTEXT(run_checked({program, "--conf-file=" + path("conf")}), "Starting DHCP on {}",
                bridge_);
    log_info("network", "DHCP server started", {{"bridge", bridge_}, {"pid", running_pid()}});
    return {};
}

Result<void> DhcpServer::terminate(pid_t pid) {
    for (const int signal_number : {SIGTERM, SIGKILL}) {
        ::kill(pid, signal_number);
        for (int i = 0; i < kStopPollCount; ++i) {
            if (!process_alive(pid)) {
                return {};
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(kStopPollMs));
        }
    }
    return Error::timeout("dnsmasq of {} (pid {}) does not end", bridge_, pid);
}

Result<void> DhcpServer::stop() {
    if (const pid_t pid = running_pid(); pid != 0) {
        TRY(terminate(pid));
    }
    return remove_tree(folder_);
}

}  // namespace kumoi::compute
