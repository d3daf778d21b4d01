// Network configuration of a Linux guest, in whichever of the usual ways it is configured: netplan,
// NetworkManager key files, ifupdown, systemd-networkd; the first that the guest has.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hypervisor/offline/guest_files.h"

namespace kumoi::hypervisor::offline {

// One card, found by its MAC address. No addresses: DHCP (v4).
struct CardNetwork {
    std::string mac;                     // "52:54:00:12:34:56"
    std::vector<std::string> addresses;  // "192.0.2.5/24", "2001:db8::5/64"
    std::optional<std::string> gateway4, gateway6;
    std::vector<std::string> dns;
};

enum class NetworkSystem { Netplan, NetworkManager, Ifupdown, Networkd };

// Error when the text of an address, prefix or MAC is wrong.
Result<void> check_card(const CardNetwork& card);
// NotFound when the guest has none of them.
Result<NetworkSystem> find_network_system(GuestFiles& files);

struct NetworkFile {
    std::string path;
    std::string content;
    uint32_t mode = 0644;
};
// ifupdown knows cards by name only: systemd.link(5) files, which udev obeys everywhere, name them
// kumoi0, kumoi1 ... by their MAC.
std::vector<NetworkFile> network_files(NetworkSystem system, const std::vector<CardNetwork>& cards);

}  // namespace kumoi::hypervisor::offline
