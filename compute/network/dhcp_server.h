// DhcpServer: one dnsmasq per network, answering DHCP only (no DNS), on that network's bridge only,
// for known ports only. Its folder holds conf, hosts, opts, leases, pid and log. A change of hosts
// or options is a SIGHUP; a change of ranges or interface a restart. It lives on when the daemon
// stops, and is adopted again at start. Not thread safe: NodeNetwork's mutex guards it.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "compute/network/node_records.h"

namespace kumoi::compute {

// The text of dnsmasq's three input files; pure.
struct DhcpFiles {
    std::string conf;
    std::string hosts;
    std::string options;
    bool operator==(const DhcpFiles&) const = default;
};
DhcpFiles render_dhcp_files(const NetworkSpec& network, const std::string& bridge,
                            const std::string& folder, bool keep_root);
// The leases file without leases that give an address of `hosts` to another MAC; dnsmasq would keep
// the address from its new owner until the old lease ends.
std::string without_stale_leases(const std::string& leases, const std::vector<DhcpHostSpec>& hosts);
bool serves_dhcp(const NetworkSpec& network);  // some subnet has DHCP and an address of this host

class DhcpServer {
public:
    // `folder` is the network's own and is made when missing.
    DhcpServer(std::string folder, std::string bridge)
        : folder_(std::move(folder)), bridge_(std::move(bridge)) {}

    // Starts, reloads, restarts or stops dnsmasq so that it serves exactly this.
    Result<void> update(const NetworkSpec& network);
    Result<void> stop();  // and removes the folder
    bool is_running() const { return running_pid() != 0; }

private:
    pid_t running_pid() const;  // 0: none; checks that the pid is still our dnsmasq
    Result<void> start();
    Result<void> terminate(pid_t pid);
    Result<DhcpFiles> read_files() const;
    Result<void> write_files(const DhcpFiles& files, const DhcpFiles& present) const;
    std::string path(std::string_view name) const { return folder_ + "/" + std::string(name); }

    std::string folder_;
    std::string bridge_;
};

}  // namespace kumoi::compute
