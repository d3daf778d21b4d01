// NodeNetwork: carries ports on this host. Per network a Linux bridge with the gateway's address
// and 169.254.169.254, a DHCP server and connection tracking zone; per port a TAP device and its
// chains in the packet filter. All of it is made here, named by id, marked with an alias, and
// removed when its last user goes; reconcile() makes the host agree with the records after a crash.
//
// Order of plugging: filter first, then the device joins the bridge, so no frame passes unfiltered
// (and an unknown device of ours is dropped anyway). A plug costs one nft transaction, one file
// write and a handful of system calls. One mutex guards everything. Any thread. Needs
// CAP_NET_ADMIN; works in whatever network namespace the process lives in.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "compute/manager/network_api.h"
#include "compute/network/dhcp_server.h"
#include "compute/network/firewall.h"
#include "compute/network/netlink.h"
#include "compute/network/node_records.h"

namespace kumoi::compute {

struct NodeNetworkOptions {
    std::string folder;          // DHCP state; one folder per network inside
    bool nat = false;            // guests reach beyond this host by masquerading
    int64_t tap_owner_uid = -1;  // who besides root may open the TAPs
    std::string address = {};    // of this node among its peers
};

// Told when a network's bridge appears on or leaves this host; the metadata listener lives on it.
class BridgeListener {
public:
    virtual ~BridgeListener() = default;
    virtual void bridge_up(const std::string& network_id, const std::string& bridge) = 0;
    virtual void bridge_down(const std::string& network_id) = 0;
};

class NodeNetwork final : public VifDriver, public NetworkListener {
public:
    static Result<std::unique_ptr<NodeNetwork>> create(NodeNetworkOptions options,
                                                       NetworkRecords& records);
    // Before the first plug; must outlive this. Called with the mutex held: must not call back.
    void set_bridge_listener(BridgeListener* listener) { bridge_listener_ = listener; }

    Result<std::string> plug(const Instance& instance, const VifInfo& vif) override;
    Result<void> unplug(const Instance& instance, const VifInfo& vif) override;
    Result<void> reconcile(const std::vector<Instance>& instances) override;

    void network_changed(const std::string& network_id) override;
    void port_changed(const std::string& port_id) override;
    void security_group_changed(const std::string& group_id) override;

private:
    using Groups = std::map<std::string, std::vector<std::string>>;
    struct Plan;

    NodeNetwork(NodeNetworkOptions options, NetworkRecords& records, StatefulMode mode)
        : options_(std::move(options)), records_(records), firewall_(mode, options_.nat) {}
    Result<void> prepare_host();
    Result<void> plug_locked(const std::string& port_id, bool multi_queue);
    Result<void> unplug_locked(const std::string& port_id, const std::string& network_id);
    Result<void> ensure_network(const NetworkSpec& network);
    Result<void> ensure_bridge(const NetworkSpec& network);
    Result<void> ensure_tunnel(const NetworkSpec& network);
    Result<void> attach_device(const PortSpec& port, const NetworkSpec& network, bool multi_queue);
    Result<void> remove_network(const std::string& network_id);
    Result<void> remove_if_unused(const std::string& network_id);
    Result<Groups> groups_of(const PortSpec& port);
    Result<Plan> make_plan(const std::vector<Instance>& instances);
    Result<void> remove_leftovers(const Plan& plan);
    Result<void> refresh_port(const std::string& port_id);
    std::string dhcp_folder(const std::string& network_id) const {
        return options_.folder + "/" + network_id;
    }

    const NodeNetworkOptions options_;
    NetworkRecords& records_;
    std::mutex mutex_;  // guards all below, and the order of changes in the kernel
    Firewall firewall_;
    BridgeListener* bridge_listener_ = nullptr;
    std::map<std::string, std::set<std::string>> tunnels_;  // network id -> peers
};

}  // namespace kumoi::compute
