// Network devices of this host by rtnetlink(7): bridges, addresses, links. One short-lived socket
// per call; every call is a few system calls (tens of microseconds), so plugging a VIF needs no
// process. Works in the network namespace of the calling thread. Any thread.
//
// Devices we make carry an alias "kumoi:<id>"; listing returns it, so that start-up cleaning never
// touches a device that somebody else made under a similar name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "compute/network/ip_address.h"

namespace kumoi::compute {

struct LinkInfo {
    int index = 0;
    std::string name;
    std::string alias;
    std::string mac;
    int master_index = 0;
    int64_t mtu = 0;
    bool up = false;
};

struct BridgeOptions {
    std::string mac;
    std::string alias;
    int64_t mtu = 1500;
    bool netfilter = false;  // hand bridged IP packets to the IP hooks (br_netfilter)
};

Result<std::vector<LinkInfo>> list_links();
Result<std::optional<LinkInfo>> find_link(const std::string& name);

Result<void> create_bridge(const std::string& name, const BridgeOptions& options);
Result<void> delete_link(const std::string& name);  // absent is fine

// A VXLAN device (RFC 7348, port 4789) that sends from `local`; and where it sends frames whose
// place it has not learned, one entry a peer. Present and absent are fine.
Result<void> create_vxlan(const std::string& name, int64_t vni, const IpAddress& local,
                          const std::string& alias);
Result<void> add_vxlan_peer(const std::string& name, const IpAddress& peer);
Result<void> remove_vxlan_peer(const std::string& name, const IpAddress& peer);

struct LinkChange {
    std::optional<int> master_index;  // 0: leave the bridge
    std::optional<int64_t> mtu;
    std::optional<bool> up;
    std::optional<std::string> alias;
    std::optional<bool> bridge_netfilter;  // bridges only
};
Result<void> change_link(const std::string& name, const LinkChange& change);

struct InterfaceAddress {
    IpAddress address;
    int prefix_length = 0;
    auto operator<=>(const InterfaceAddress&) const = default;
};
Result<std::vector<InterfaceAddress>> list_addresses(int link_index);
Result<void> add_address(int link_index, const InterfaceAddress& address);  // present is fine
Result<void> remove_address(int link_index, const InterfaceAddress& address);

// Makes (or reopens) a persistent TAP with virtio headers, single queue, no packet information; the
// owner may be an unprivileged user id (-1: root only).
Result<void> create_tap(const std::string& name, int64_t owner_uid, bool multi_queue = false);
// As kumoi-vmm opens them: non-blocking, with the virtio network header. NotFound: no such device.
Result<std::vector<UniqueFd>> open_tap_queues(const std::string& name, int64_t count);

// /proc/sys/net of the calling thread's namespace; `path` such as "ipv4/conf/kb1/rp_filter".
Result<void> write_net_sysctl(const std::string& path, std::string_view value);
Result<std::string> read_net_sysctl(const std::string& path);

}  // namespace kumoi::compute
