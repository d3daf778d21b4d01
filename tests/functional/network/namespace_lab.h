// A private world for network tests: the test process moves into its own network and mount
// namespace (everything in it vanishes with the process), and guests are further namespaces joined
// to the node's bridges by veth pairs whose host end has the TAP's name, so the node's code takes
// the same path.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "compute/network/node_records.h"

namespace kumoi::test {

// Moves this process into fresh namespaces. An error names what is missing (root, a program).
Result<void> enter_private_world();

// Records kept by hand.
class RecordsFake final : public compute::NetworkRecords {
public:
    Result<compute::NetworkSpec> node_network(const std::string& network_id) override;
    Result<compute::PortSpec> node_port(const std::string& port_id) override;
    Result<std::vector<std::string>> security_group_addresses(const std::string& id) override;
    Result<void> port_plugged(const std::string& port_id, bool plugged) override;

    std::map<std::string, compute::NetworkSpec> networks;
    std::map<std::string, compute::PortSpec> ports;
    std::map<std::string, std::vector<std::string>> groups;
    std::map<std::string, bool> plugged;
};

// One guest: a namespace with an eth0 that ends in the host device `tap`.
class Guest {
public:
    Guest(std::string name, const std::string& tap, const std::string& mac);
    ~Guest();
    Guest(const Guest&) = delete;
    Guest& operator=(const Guest&) = delete;

    int run(std::vector<std::string> argv) const;  // exit code; -1: could not be run
    std::string output(std::vector<std::string> argv) const;
    void set_address(const std::string& cidr) const;
    bool ping(const std::string& address) const;
    bool tcp(const std::string& address, int port) const;  // connects and reads a line
    // Asks for a lease and applies it; the text of what the server said.
    std::string dhcp(const std::string& script_folder) const;
    const std::string& name() const { return name_; }

private:
    std::string name_;
};

// Runs `function` in a child process inside the guest's namespace; its return value.
int in_guest(const Guest& guest, const std::function<int()>& function);
// A socat that answers "hello" on a TCP port of the guest (or of the host: nullptr), until
// destroyed.
class TcpServer {
public:
    TcpServer(const Guest* guest, int port);
    ~TcpServer();
    TcpServer(const TcpServer&) = delete;
    TcpServer& operator=(const TcpServer&) = delete;

private:
    pid_t pid_ = 0;
};

}  // namespace kumoi::test
