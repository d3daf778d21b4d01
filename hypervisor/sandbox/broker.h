// The broker: how the sandboxed process gets what the launcher did not open beforehand, as long as
// the guest does not run yet.
//
// BrokerFiles asks over a socket, BrokerServer (in the launcher, which kept its caller's rights)
// opens and passes the descriptor back. It opens only what the machine's configuration names, plus
// a few devices, and the backing chain of disks that the configuration calls qcow2. The last
// message is "made": then the launcher closes its end, before the guest's first instruction. All
// that a guest can reach later are the connectors that were asked for before: each is a socket on
// which a number means "connect to that one path again", for vhost-user back ends that restart, or
// "to the path of that port", for the vsock connections of a guest.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

class BrokerFiles final : public FileSource {
public:
    explicit BrokerFiles(UniqueFd socket) : socket_(std::move(socket)) {}

    Result<UniqueFd> open(const std::string& path, int flags, unsigned mode = 0644) override;
    Result<UniqueFd> open_tap(const std::string& interface, bool multi_queue = false) override;
    Result<UniqueFd> listen(const std::string& path, unsigned mode = 0600) override;
    Result<UniqueFd> listen_tcp(const std::string& host, uint16_t port) override;
    Result<UniqueFd> connect(const std::string& path) override;
    Result<Connector> connector(const std::string& path) override;
    Result<PortConnector> port_connector(const std::string& path) override;
    void remove_socket(const std::string& /*path*/) override {}  // the launcher does, at the end
    // Nothing can be asked for any more.
    void machine_made();
    int fd() const { return socket_.get(); }

private:
    UniqueFd socket_;
};

struct BrokerRules {
    std::set<std::string> names;     // paths, interfaces, addresses, exactly
    std::vector<std::string> qcow2;  // images whose backing files may be opened for reading
};
// Every string of the configuration, as it stands and as a path from the base directory.
BrokerRules broker_rules(const Json& config, const std::string& base_directory);

class BrokerServer {
public:
    enum class After { Goes, Made, Closed };
    BrokerServer(BrokerRules rules, FileSource& files) : rules_(std::move(rules)), files_(files) {}
    // One request from the socket, answered.
    After serve(int socket);
    const std::vector<std::string>& sockets() const { return sockets_; }  // files made

    struct ConnectorEnd {
        UniqueFd socket;
        FileSource::PortConnector connect;  // of one path: for any port
    };
    static constexpr size_t kConnectorsMax = 64;
    std::vector<ConnectorEnd>& connectors() { return connectors_; }
    // One request on it; false when its user is gone.
    bool serve(const ConnectorEnd& connector);

private:
    Result<UniqueFd> open_for(std::string_view request);
    Result<UniqueFd> make_connector(FileSource::PortConnector connect);
    static void reply(int socket, const Result<UniqueFd>& fd);
    bool is_named(const std::string& name) const { return rules_.names.contains(name); }
    bool is_backing_file(const std::string& path) const;

    BrokerRules rules_;
    FileSource& files_;
    std::vector<std::string> sockets_;
    std::vector<ConnectorEnd> connectors_;
};

// The name in a qcow2 header, as a path; empty when there is none or the file is no qcow2.
Result<std::string> qcow2_backing_path(const std::string& image);

}  // namespace kumoi::hypervisor
