#include "hypervisor/offline/network_files.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include <fmt/core.h>

namespace kumoi::hypervisor::offline {
namespace {

bool is_address(int family, const std::string& text) {
    std::array<unsigned char, 16> bytes{};
    return text.size() < INET6_ADDRSTRLEN && inet_pton(family, text.c_str(), bytes.data()) == 1;
}

bool is_v6(const std::string& address) {
    return address.find(':') != std::string::npos;
}

bool is_prefixed(const std::string& text) {
    const size_t slash = text.find('/');
    if (slash == std::string::npos) {
        return false;
    }
    const std::string address = text.substr(0, slash);
    unsigned length = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + slash + 1, end, length);
    const bool v6 = is_v6(address);
    return error == std::errc() && stop == end && length <= (v6 ? 128U : 32U) &&
           is_address(v6 ? AF_INET6 : AF_INET, address);
}

bool is_mac(const std::string& text) {
    if (text.size() != 17) {
        return false;
    }
    for (size_t i = 0; i < text.size(); ++i) {
        const auto character = static_cast<unsigned char>(text[i]);
        if (i % 3 == 2 ? character != ':' : std::isxdigit(character) == 0) {
            return false;
        }
    }
    return true;
}

std::string joined(const std::vector<std::string>& items, std::string_view separator) {
    std::string text;
    for (const std::string& item : items) {
        text += (text.empty() ? "" : std::string(separator)) + item;
    }
    return text;
}

std::vector<std::string> gateways(const CardNetwork& card) {
    std::vector<std::string> all;
    for (const auto& gateway : {card.gateway4, card.gateway6}) {
        if (gateway) {
            all.push_back(*gateway);
        }
    }
    return all;
}

std::vector<std::string> of_family(const std::vector<std::string>& addresses, bool v6) {
    std::vector<std::string> some;
    std::copy_if(addresses.begin(), addresses.end(), std::back_inserter(some),
                 [=](const std::string& address) { return is_v6(address) == v6; });
    return some;
}

NetworkFile netplan(const std::vector<CardNetwork>& cards) {
    std::string text = "network:\n  version: 2\n  ethernets:\n";
    for (size_t i = 0; i < cards.size(); ++i) {
        const CardNetwork& card = cards[i];
        text += fmt::format("    kumoi{}:\n      match: {{macaddress: \"{}\"}}\n", i, card.mac);
        text += fmt::format("      dhcp4: {}\n", card.addresses.empty());
        if (!card.addresses.empty()) {
            text += fmt::format("      addresses: [\"{}\"]\n", joined(card.addresses, "\", \""));
        }
        for (const std::string& gateway : gateways(card)) {
            text += gateway == gateways(card).front() ? "      routes:\n" : "";
            text += fmt::format("      - {{to: \"{}\", via: \"{}\"}}\n",
                                is_v6(gateway) ? "::/0" : "0.0.0.0/0", gateway);
        }
        if (!card.dns.empty()) {
            text += fmt::format("      nameservers: {{addresses: [\"{}\"]}}\n",
                                joined(card.dns, "\", \""));
        }
    }
    return {"/etc/netplan/60-kumoi.yaml", text, 0600};  // netplan warns of wider rights
}

std::string key_file_family(const CardNetwork& card, bool v6) {
    const auto addresses = of_family(card.addresses, v6);
    std::string text = v6 ? "\n[ipv6]\n" : "\n[ipv4]\n";
    if (addresses.empty()) {
        return text + (card.addresses.empty() || v6 ? "method=auto\n" : "method=disabled\n");
    }
    text += "method=manual\n";
    for (size_t i = 0; i < addresses.size(); ++i) {
        text += fmt::format("address{}={}\n", i + 1, addresses[i]);
    }
    if (const auto& gateway = v6 ? card.gateway6 : card.gateway4) {
        text += fmt::format("gateway={}\n", *gateway);
    }
    if (const auto dns = of_family(card.dns, v6); !dns.empty()) {
        text += fmt::format("dns={};\n", joined(dns, ";"));
    }
    return text;
}

NetworkFile key_file(const CardNetwork& card, size_t index) {
    std::string text = fmt::format(
        "[connection]\nid=kumoi{0}\ntype=ethernet\nautoconnect-priority=100\n\n"
        "[ethernet]\nmac-address={1}\n",
        index, card.mac);
    text += key_file_family(card, false) + key_file_family(card, true);
    return {fmt::format("/etc/NetworkManager/system-connections/kumoi{}.nmconnection", index), text,
            0600};  // NetworkManager refuses wider rights
}

NetworkFile networkd_file(const CardNetwork& card, size_t index) {
    std::string text = fmt::format("[Match]\nMACAddress={}\n\n[Network]\n", card.mac);
    text += card.addresses.empty() ? "DHCP=ipv4\n" : "";
    for (const std::string& address : card.addresses) {
        text += "Address=" + address + "\n";
    }
    for (const std::string& gateway : gateways(card)) {
        text += "Gateway=" + gateway + "\n";
    }
    for (const std::string& server : card.dns) {
        text += "DNS=" + server + "\n";
    }
    return {fmt::format("/etc/systemd/network/10-kumoi{}.network", index), text, 0644};
}

NetworkFile link_file(const CardNetwork& card, size_t index) {
    return {fmt::format("/etc/systemd/network/10-kumoi{}.link", index),
            fmt::format("[Match]\nMACAddress={}\n\n[Link]\nName=kumoi{}\n", card.mac, index), 0644};
}

std::string stanza(const CardNetwork& card, size_t index, bool v6) {
    std::string text;
    bool first = true;
    for (const std::string& address : of_family(card.addresses, v6)) {
        text += fmt::format("iface kumoi{} {} static\n    address {}\n", index,
                            v6 ? "inet6" : "inet", address);
        const auto& gateway = v6 ? card.gateway6 : card.gateway4;
        text += first && gateway ? fmt::format("    gateway {}\n", *gateway) : "";
        const auto dns = of_family(card.dns, v6);
        text +=
            first && !dns.empty() ? fmt::format("    dns-nameservers {}\n", joined(dns, " ")) : "";
        first = false;
    }
    return text;
}

std::vector<NetworkFile> ifupdown(const std::vector<CardNetwork>& cards) {
    std::vector<NetworkFile> files;
    std::string text;
    for (size_t i = 0; i < cards.size(); ++i) {
        files.push_back(link_file(cards[i], i));
        text += fmt::format("auto kumoi{}\n", i);
        text += cards[i].addresses.empty() ? fmt::format("iface kumoi{} inet dhcp\n", i)
                                           : stanza(cards[i], i, false) + stanza(cards[i], i, true);
    }
    files.push_back({"/etc/network/interfaces.d/kumoi", text, 0644});
    return files;
}

}  // namespace

Result<void> check_card(const CardNetwork& card) {
    if (!is_mac(card.mac)) {
        return Error::invalid("\"{}\" is no MAC address", card.mac)
            .with_hint("six bytes as 52:54:00:12:34:56");
    }
    for (const std::string& address : card.addresses) {
        if (!is_prefixed(address)) {
            return Error::invalid("\"{}\" is no address with its prefix", address)
                .with_hint("192.0.2.5/24 or 2001:db8::5/64");
        }
    }
    if (card.gateway4 && !is_address(AF_INET, *card.gateway4)) {
        return Error::invalid("\"{}\" is no IPv4 address of a gateway", *card.gateway4);
    }
    if (card.gateway6 && !is_address(AF_INET6, *card.gateway6)) {
        return Error::invalid("\"{}\" is no IPv6 address of a gateway", *card.gateway6);
    }
    for (const std::string& server : card.dns) {
        if (!is_address(is_v6(server) ? AF_INET6 : AF_INET, server)) {
            return Error::invalid("\"{}\" is no address of a name server", server);
        }
    }
    return {};
}

Result<NetworkSystem> find_network_system(GuestFiles& files) {
    constexpr std::pair<const char*, NetworkSystem> kSigns[] = {
        {"/etc/netplan", NetworkSystem::Netplan},
        {"/etc/NetworkManager/system-connections", NetworkSystem::NetworkManager},
        {"/etc/network/interfaces", NetworkSystem::Ifupdown},
        {"/etc/systemd/network", NetworkSystem::Networkd},
    };
    for (const auto& [path, system] : kSigns) {
        if (TRY(files.exists(path))) {
            return system;
        }
    }
    return Error::not_found(
               "the guest has none of netplan, NetworkManager, ifupdown, systemd-networkd")
        .with_hint("leave out --network, or let cloud-init do it");
}

std::vector<NetworkFile> network_files(NetworkSystem system,
                                       const std::vector<CardNetwork>& cards) {
    if (system == NetworkSystem::Netplan) {
        return {netplan(cards)};
    }
    if (system == NetworkSystem::Ifupdown) {
        return ifupdown(cards);
    }
    std::vector<NetworkFile> files;
    for (size_t i = 0; i < cards.size(); ++i) {
        files.push_back(system == NetworkSystem::Networkd ? networkd_file(cards[i], i)
                                                          : key_file(cards[i], i));
    }
    return files;
}

}  // namespace kumoi::hypervisor::offline
