// All options of kumoi-compute: compute/options.h's, those of the messages (api/amqp) and of the
// clients of a real OpenStack. And how the file is read: one of our own refuses what it does not
// know, a nova.conf (mode = openstack) may hold anything.
#pragma once

#include <string>
#include <vector>

#include "base/config.h"

namespace kumoi::api {

const OptionTable& options();

struct ReadConfig {
    Config config;
    std::vector<std::string> unknown;  // options of others in a nova.conf: "[libvirt] virt_type"
};

// Several files are read as one, later ones win.
Result<ReadConfig> read_configuration(const std::vector<std::string>& paths);

}  // namespace kumoi::api
