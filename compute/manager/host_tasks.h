// HostTasks: what a node does besides its verbs where a Nova keeps its records: the part of
// recovery that only the cloud's records can tell, and nova-compute's periodic tasks. The manager
// owns the interface, api/nova implements it; standalone there is none. With it recovery follows
// Nova's rules (nova_rules.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace kumoi::compute {

struct NodeServices;

class HostTasks {
public:
    struct Periodic {
        std::string name;
        int64_t interval_s = 60;
        std::function<void()> function;  // on a housekeeping thread; may block
    };
    virtual ~HostTasks() = default;

    // At start, before any server of this host is looked at: what left it while it was down.
    virtual Result<void> before_recovery(NodeServices& services) {
        (void)services;
        return {};
    }
    // Those that are switched on.
    virtual std::vector<Periodic> periodic_tasks() = 0;
};

}  // namespace kumoi::compute
