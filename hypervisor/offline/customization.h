// Customization: what a copy of a template gets of its own, read from a request and written into
// the guest's files. The request is JSON, all members optional:
//
//     {"hostname": "web-1", "reset": true,
//      "users": [{"name": "root", "password": "...", "ssh_keys": ["ssh-ed25519 AAAA..."]}],
//      "network": [{"mac": "52:54:00:12:34:56", "addresses": ["192.0.2.5/24"],
//                   "gateway4": "192.0.2.1", "gateway6": "...", "dns": ["192.0.2.1"]}]}
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/random.h"
#include "hypervisor/offline/guest_files.h"
#include "hypervisor/offline/network_files.h"

namespace kumoi::hypervisor::offline {

struct UserCustomization {
    std::string name;
    std::optional<std::string> password;
    std::vector<std::string> ssh_keys;
};

struct Customization {
    std::optional<std::string> hostname;
    bool reset = false;
    std::vector<UserCustomization> users;
    std::vector<CardNetwork> network;
};

// Checks every value: what it returns can be written.
Result<Customization> parse_customization(const Json& request);
// In this order: reset, host name, network, users. Returns what it did, a line each. An error
// leaves what was done before it: the same request may be made again.
Result<std::vector<std::string>> customize(GuestFiles& files, const Customization& wanted,
                                           Random& random, const Clock& clock);

}  // namespace kumoi::hypervisor::offline
