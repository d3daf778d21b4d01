#include "compute/network/netlink.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

#include "base/fd.h"
#include "base/file.h"

namespace kumoi::compute {
namespace {

constexpr size_t kReplyBytesMax = 64 * 1024;  // the kernel's own dump chunk is 32 KiB at most

// Builds one rtnetlink request: header, family header, then attributes, some of them nested.
class NetlinkMessage {
public:
    NetlinkMessage(uint16_t type, uint16_t flags) {
        bytes_.resize(NLMSG_HDRLEN);
        nlmsghdr header{};
        header.nlmsg_type = type;
        header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
        header.nlmsg_seq = 1;
        std::memcpy(bytes_.data(), &header, sizeof(header));
    }
    template <class T>
    NetlinkMessage& body(const T& value) {
        append(&value, sizeof(value));
        return *this;
    }
    NetlinkMessage& attribute(uint16_t type, const void* data, size_t size) {
        rtattr header{};
        header.rta_type = type;
        header.rta_len = static_cast<uint16_t>(RTA_LENGTH(size));
        append(&header, sizeof(header));
        append(data, size);
        return *this;
    }
    NetlinkMessage& text(uint16_t type, const std::string& value) {
        return attribute(type, value.c_str(), value.size() + 1);
    }
    NetlinkMessage& u8(uint16_t type, uint8_t value) {
        return attribute(type, &value, sizeof(value));
    }
    NetlinkMessage& u32(uint16_t type, uint32_t value) {
        return attribute(type, &value, sizeof(value));
    }
    NetlinkMessage& nest(uint16_t type, const std::function<void()>& fill) {
        const size_t start = bytes_.size();
        attribute(static_cast<uint16_t>(type | NLA_F_NESTED), nullptr, 0);
        fill();
        const auto length = static_cast<uint16_t>(bytes_.size() - start);
        std::memcpy(bytes_.data() + start + offsetof(rtattr, rta_len), &length, sizeof(length));
        return *this;
    }
    const std::vector<char>& finish() {
        const auto length = static_cast<uint32_t>(bytes_.size());
        std::memcpy(bytes_.data() + offsetof(nlmsghdr, nlmsg_len), &length, sizeof(length));
        return bytes_;
    }

private:
    void append(const void* data, size_t size) {
        const size_t start = bytes_.size();
        bytes_.resize(start + NLMSG_ALIGN(size));
        if (size != 0) {
            std::memcpy(bytes_.data() + start, data, size);
        }
    }
    std::vector<char> bytes_;
};

using MessageVisitor = std::function<void(const nlmsghdr& header)>;

// Walks one datagram; returns true when the answer is complete.
Result<bool> visit_messages(char* data, size_t size, const MessageVisitor& visit,
                            const std::string& what) {
    for (size_t offset = 0; size - offset >= sizeof(nlmsghdr);) {
        const auto* header = reinterpret_cast<const nlmsghdr*>(data + offset);
        if (header->nlmsg_len < sizeof(nlmsghdr) || header->nlmsg_len > size - offset) {
            return Error::corrupt("netlink answered a message of {} bytes in {} while {}",
                                  header->nlmsg_len, size - offset, what);
        }
        offset = std::min<size_t>(size, offset + NLMSG_ALIGN(header->nlmsg_len));
        if (header->nlmsg_type == NLMSG_DONE) {
            return true;
        }
        if (header->nlmsg_type == NLMSG_ERROR) {
            const int code = static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
            if (code != 0) {
                return Error::from_errno(-code, what);
            }
            return true;
        }
        visit(*header);
    }
    return false;
}

Result<void> transact(
    NetlinkMessage& message, const std::string& what,
    const MessageVisitor& visit = [](const nlmsghdr&) {}) {
    UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!socket.is_open()) {
        return Error::from_errno(errno, "opening a netlink socket");
    }
    const auto& bytes = message.finish();
    if (::send(socket.get(), bytes.data(), bytes.size(), 0) < 0) {
        return Error::from_errno(errno, what);
    }
    std::vector<char> reply(kReplyBytesMax);
    for (;;) {
        const ssize_t received = ::recv(socket.get(), reply.data(), reply.size(), 0);
        if (received < 0) {
            if (errno == EINTR) {
                continue;
            }
            return Error::from_errno(errno, what);
        }
        if (TRY(visit_messages(reply.data(), static_cast<size_t>(received), visit, what))) {
            return {};
        }
    }
}

std::string attribute_text(const rtattr* attribute) {
    const auto* data = static_cast<const char*>(RTA_DATA(attribute));
    return std::string(data, strnlen(data, RTA_PAYLOAD(attribute)));
}

uint32_t attribute_u32(const rtattr* attribute) {
    uint32_t value = 0;
    if (RTA_PAYLOAD(attribute) >= sizeof(value)) {
        std::memcpy(&value, RTA_DATA(attribute), sizeof(value));
    }
    return value;
}

std::string mac_text(const rtattr* attribute) {
    if (RTA_PAYLOAD(attribute) != 6) {
        return "";
    }
    const auto* b = static_cast<const uint8_t*>(RTA_DATA(attribute));
    return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", b[0], b[1], b[2], b[3], b[4],
                       b[5]);
}

LinkInfo parse_link(const nlmsghdr& header) {
    const auto* info = static_cast<const ifinfomsg*>(NLMSG_DATA(&header));
    LinkInfo link;
    link.index = info->ifi_index;
    link.up = (info->ifi_flags & IFF_UP) != 0;
    auto length = static_cast<int>(IFLA_PAYLOAD(&header));
    for (const rtattr* attribute = IFLA_RTA(info); RTA_OK(attribute, length);
         attribute = RTA_NEXT(attribute, length)) {
        switch (attribute->rta_type) {
            case IFLA_IFNAME: link.name = attribute_text(attribute); break;
            case IFLA_IFALIAS: link.alias = attribute_text(attribute); break;
            case IFLA_ADDRESS: link.mac = mac_text(attribute); break;
            case IFLA_MASTER: link.master_index = static_cast<int>(attribute_u32(attribute)); break;
            case IFLA_MTU: link.mtu = attribute_u32(attribute); break;
            default: break;
        }
    }
    return link;
}

Result<int> link_index(const std::string& name) {
    const unsigned index = if_nametoindex(name.c_str());
    if (index == 0) {
        return Error::from_errno(errno == 0 ? ENODEV : errno, "finding network device " + name);
    }
    return static_cast<int>(index);
}

void add_bridge_netfilter(NetlinkMessage& message, bool enabled) {
    message.u8(IFLA_BR_NF_CALL_IPTABLES, enabled ? 1 : 0);
    message.u8(IFLA_BR_NF_CALL_IP6TABLES, enabled ? 1 : 0);
}

Result<void> change_address(int index, const InterfaceAddress& address, uint16_t type,
                            uint16_t flags) {
    const bool ipv4 = address.address.version() == 4;
    ifaddrmsg body{};
    body.ifa_family = ipv4 ? AF_INET : AF_INET6;
    body.ifa_prefixlen = static_cast<uint8_t>(address.prefix_length);
    body.ifa_index = static_cast<uint32_t>(index);
    // Without duplicate address detection: the records already say whose address it is.
    body.ifa_flags = ipv4 ? 0 : IFA_F_NODAD;
    const size_t size = ipv4 ? 4 : 16;
    NetlinkMessage message(type, static_cast<uint16_t>(NLM_F_ACK | flags));
    message.body(body);
    message.attribute(IFA_LOCAL, address.address.bytes().data(), size);
    message.attribute(IFA_ADDRESS, address.address.bytes().data(), size);
    return transact(message, fmt::format("setting address {}/{} on link {}", address.address.text(),
                                         address.prefix_length, index));
}

}  // namespace

Result<std::vector<LinkInfo>> list_links() {
    NetlinkMessage message(RTM_GETLINK, NLM_F_DUMP);
    message.body(ifinfomsg{});
    std::vector<LinkInfo> links;
    TRY(transact(message, "listing network devices", [&](const nlmsghdr& header) {
        if (header.nlmsg_type == RTM_NEWLINK) {
            links.push_back(parse_link(header));
        }
    }));
    return links;
}

Result<std::optional<LinkInfo>> find_link(const std::string& name) {
    NetlinkMessage message(RTM_GETLINK, NLM_F_ACK);
    message.body(ifinfomsg{}).text(IFLA_IFNAME, name);
    std::optional<LinkInfo> found;
    const auto outcome =
        transact(message, "finding network device " + name, [&](const nlmsghdr& header) {
            if (header.nlmsg_type == RTM_NEWLINK) {
                found = parse_link(header);
            }
        });
    if (!outcome.ok() && if_nametoindex(name.c_str()) == 0) {
        return std::optional<LinkInfo>();  // the kernel says ENODEV
    }
    TRY(outcome);
    return found;
}

Result<void> create_bridge(const std::string& name, const BridgeOptions& options) {
    NetlinkMessage message(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
    message.body(ifinfomsg{}).text(IFLA_IFNAME, name);
    if (!options.mac.empty()) {  // else the kernel takes its first port's, as Neutron's bridges do
        const auto mac = mac_bytes(options.mac);
        message.attribute(IFLA_ADDRESS, mac.data(), mac.size());
    }
    message.u32(IFLA_MTU, static_cast<uint32_t>(options.mtu));
    message.nest(IFLA_LINKINFO, [&] {
        message.text(IFLA_INFO_KIND, "bridge");
        message.nest(IFLA_INFO_DATA, [&] {
            message.u32(IFLA_BR_STP_STATE, 0);
            message.u32(IFLA_BR_FORWARD_DELAY, 0);
            // Without a querier, snooping would drop the neighbour discovery of quiet guests.
            message.u8(IFLA_BR_MCAST_SNOOPING, 0);
            add_bridge_netfilter(message, options.netfilter);
        });
    });
    TRY(transact(message, "creating bridge " + name));
    return change_link(name, {.alias = options.alias});
}

Result<void> create_vxlan(const std::string& name, int64_t vni, const IpAddress& local,
                          const std::string& alias) {
    constexpr uint16_t kPort = 4789;
    NetlinkMessage message(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
    message.body(ifinfomsg{});
    message.text(IFLA_IFNAME, name);
    message.nest(IFLA_LINKINFO, [&] {
        message.text(IFLA_INFO_KIND, "vxlan");
        message.nest(IFLA_INFO_DATA, [&] {
            const uint16_t port = htons(kPort);
            const bool ipv4 = local.version() == 4;
            message.u32(IFLA_VXLAN_ID, static_cast<uint32_t>(vni));
            message.attribute(IFLA_VXLAN_PORT, &port, sizeof(port));
            message.attribute(ipv4 ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, local.bytes().data(),
                              ipv4 ? 4 : 16);
            message.u8(IFLA_VXLAN_LEARNING, 1);
        });
    });
    TRY(transact(message, "creating VXLAN device " + name));
    return change_link(name, {.alias = alias});
}

namespace {

// Frames to nobody known (the zero address) go to this peer, too.
Result<void> change_vxlan_peer(const std::string& name, const IpAddress& peer, uint16_t type,
                               uint16_t flags) {
    ndmsg body{};
    body.ndm_family = AF_BRIDGE;
    body.ndm_ifindex = TRY(link_index(name));
    body.ndm_state = NUD_NOARP | NUD_PERMANENT;
    body.ndm_flags = NTF_SELF;
    const std::array<uint8_t, 6> anybody{};
    NetlinkMessage message(type, static_cast<uint16_t>(NLM_F_ACK | flags));
    message.body(body);
    message.attribute(NDA_LLADDR, anybody.data(), anybody.size());
    message.attribute(NDA_DST, peer.bytes().data(), peer.version() == 4 ? 4 : 16);
    return transact(message, fmt::format("setting peer {} of {}", peer.text(), name));
}

}  // namespace

Result<void> add_vxlan_peer(const std::string& name, const IpAddress& peer) {
    return change_vxlan_peer(name, peer, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_APPEND);
}

Result<void> remove_vxlan_peer(const std::string& name, const IpAddress& peer) {
    auto removed = change_vxlan_peer(name, peer, RTM_DELNEIGH, 0);
    return removed.ok() || removed.error().code == ErrorCode::NotFound ? Result<void>() : removed;
}

Result<void> delete_link(const std::string& name) {
    const unsigned index = if_nametoindex(name.c_str());
    if (index == 0) {
        return {};
    }
    ifinfomsg body{};
    body.ifi_index = static_cast<int>(index);
    NetlinkMessage message(RTM_DELLINK, NLM_F_ACK);
    message.body(body);
    auto outcome = transact(message, "deleting network device " + name);
    if (!outcome.ok() && if_nametoindex(name.c_str()) == 0) {
        return {};  // went away meanwhile
    }
    return outcome;
}

Result<void> change_link(const std::string& name, const LinkChange& change) {
    ifinfomsg body{};
    body.ifi_index = TRY(link_index(name));
    if (change.up) {
        body.ifi_change = IFF_UP;
        body.ifi_flags = *change.up ? IFF_UP : 0;
    }
    NetlinkMessage message(RTM_NEWLINK, NLM_F_ACK);
    message.body(body);
    if (change.master_index) {
        message.u32(IFLA_MASTER, static_cast<uint32_t>(*change.master_index));
    }
    if (change.mtu) {
        message.u32(IFLA_MTU, static_cast<uint32_t>(*change.mtu));
    }
    if (change.alias) {
        message.attribute(IFLA_IFALIAS, change.alias->data(), change.alias->size());
    }
    if (change.bridge_netfilter) {
        message.nest(IFLA_LINKINFO, [&] {
            message.text(IFLA_INFO_KIND, "bridge");
            message.nest(IFLA_INFO_DATA,
                         [&] { add_bridge_netfilter(message, *change.bridge_netfilter); });
        });
    }
    return transact(message, "changing network device " + name);
}

Result<std::vector<InterfaceAddress>> list_addresses(int index) {
    NetlinkMessage message(RTM_GETADDR, NLM_F_DUMP);
    message.body(ifaddrmsg{});
    std::vector<InterfaceAddress> addresses;
    TRY(transact(message, "listing addresses", [&](const nlmsghdr& header) {
        if (header.nlmsg_type != RTM_NEWADDR) {
            return;
        }
        const auto* info = static_cast<const ifaddrmsg*>(NLMSG_DATA(&header));
        if (info->ifa_index != static_cast<uint32_t>(index)) {
            return;
        }
        auto length = static_cast<int>(IFA_PAYLOAD(&header));
        for (const rtattr* attribute = IFA_RTA(info); RTA_OK(attribute, length);
             attribute = RTA_NEXT(attribute, length)) {
            if (attribute->rta_type != IFA_ADDRESS) {
                continue;
            }
            char text[64] = {};
            inet_ntop(info->ifa_family, RTA_DATA(attribute), text, sizeof(text));
            if (const auto address = IpAddress::parse(text)) {
                addresses.push_back({*address, info->ifa_prefixlen});
            }
        }
    }));
    return addresses;
}

Result<void> add_address(int index, const InterfaceAddress& address) {
    return change_address(index, address, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
}

Result<void> remove_address(int index, const InterfaceAddress& address) {
    return change_address(index, address, RTM_DELADDR, 0);
}

Result<void> create_tap(const std::string& name, int64_t owner_uid, bool multi_queue) {
    auto device = TRY(open_file("/dev/net/tun", O_RDWR | O_NONBLOCK));
    ifreq request{};
    // Header length and offloads are set by whoever opens the queue; these flags must match theirs.
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (multi_queue) {
        request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_MULTI_QUEUE);
    }
    name.copy(request.ifr_name, sizeof(request.ifr_name) - 1);
    if (::ioctl(device.get(), TUNSETIFF, &request) != 0) {
        return Error::from_errno(errno, "creating TAP device " + name);
    }
    if (owner_uid >= 0 && ::ioctl(device.get(), TUNSETOWNER, owner_uid) != 0) {
        return Error::from_errno(errno, "setting the owner of TAP device " + name);
    }
    if (::ioctl(device.get(), TUNSETPERSIST, 1) != 0) {
        return Error::from_errno(errno, "keeping TAP device " + name);
    }
    return {};
}

Result<std::vector<UniqueFd>> open_tap_queues(const std::string& name, int64_t count) {
    if (!TRY(find_link(name))) {  // TUNSETIFF would make one that vanishes with us
        return Error::not_found("TAP device {} does not exist", name);
    }
    std::vector<UniqueFd> queues;
    for (int64_t i = 0; i < count; ++i) {
        auto queue = TRY(open_file("/dev/net/tun", O_RDWR | O_NONBLOCK));
        ifreq request{};
        request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
        if (count > 1) {
            request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_MULTI_QUEUE);
        }
        name.copy(request.ifr_name, sizeof(request.ifr_name) - 1);
        if (::ioctl(queue.get(), TUNSETIFF, &request) != 0) {
            return Error::from_errno(errno, fmt::format("opening queue {} of {}", i, name));
        }
        queues.push_back(std::move(queue));
    }
    return queues;
}

Result<void> write_net_sysctl(const std::string& path, std::string_view value) {
    const std::string file = "/proc/sys/net/" + path;
    auto fd = TRY(open_file(file, O_WRONLY));
    return write_all(fd.get(), std::as_bytes(std::span(value)));
}

Result<std::string> read_net_sysctl(const std::string& path) {
    std::string text = TRY(read_file("/proc/sys/net/" + path));
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
        text.pop_back();
    }
    return text;
}

}  // namespace kumoi::compute
