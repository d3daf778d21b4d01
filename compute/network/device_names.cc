#include "compute/network/device_names.h"

#include "base/digest.h"

namespace kumoi::compute {

std::string short_id(std::string_view id) {
    return std::string(id.substr(0, 11));
}

std::string bridge_name(std::string_view network_id) {
    return std::string(kBridgePrefix) + short_id(network_id);
}

std::string tap_name(std::string_view port_id) {
    return std::string(kTapPrefix) + short_id(port_id);
}

std::string tunnel_name(std::string_view network_id) {
    return std::string(kTunnelPrefix) + short_id(network_id);
}

std::string device_alias(std::string_view id) {
    return std::string(kAliasPrefix) + std::string(id);
}

std::string bridge_mac(std::string_view network_id) {
    const std::string digest = digest_hex(DigestKind::Sha256, network_id);
    std::string mac = "02";
    for (size_t i = 0; i < 5; ++i) {
        mac += ":" + digest.substr(2 * i, 2);
    }
    return mac;
}

}  // namespace kumoi::compute
