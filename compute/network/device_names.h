// Names of the devices we make, derived from ids so that nothing need be stored: kb, kt or kx and
// the first 11 characters of the uuid (40 random bits), within IFNAMSIZ. And the aliases that mark
// them.
#pragma once

#include <string>
#include <string_view>

namespace kumoi::compute {

constexpr std::string_view kBridgePrefix = "kb";
constexpr std::string_view kTapPrefix = "kt";
constexpr std::string_view kTunnelPrefix = "kx";
constexpr std::string_view kAliasPrefix = "kumoi:";

std::string bridge_name(std::string_view network_id);
std::string tap_name(std::string_view port_id);
std::string tunnel_name(std::string_view network_id);  // to the other nodes
std::string device_alias(std::string_view id);         // "kumoi:<id>"
std::string short_id(std::string_view id);             // the 11 characters
std::string bridge_mac(std::string_view network_id);   // stable, locally administered

}  // namespace kumoi::compute
