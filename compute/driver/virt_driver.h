// VirtDriver: the driver contract in Nova's words (nova/virt/driver.py). Two implementations: the
// kumoi-vmm driver (one process per guest) and the simulated driver (in memory, with delays and
// failures from its configuration). Calls for one server never overlap (the manager queues per
// server); calls for different servers do. All may block.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "compute/manager/compute_api.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct InstanceInfo {
    int power_state = 0;      // vm_states.h
    int64_t cpu_time_ns = 0;  // of all vCPUs
};

struct HostResources {
    int64_t vcpus = 0;
    int64_t memory_mb = 0;
    int64_t memory_mb_used = 0;  // by the host itself and everything on it
    int64_t local_gb = 0;
    int64_t local_gb_free = 0;
    std::string cpu_info_json;  // Nova's cpu_info: arch, model, vendor, topology, features
};

// What a driver tells about a server without being asked (guest shut down, crashed, paused).
struct LifecycleEvent {
    std::string instance_uuid;
    enum class Kind { Started, Stopped, Paused, Resumed, Crashed, Rebooted } kind = Kind::Stopped;
    std::string detail;
};

struct SpawnRequest {
    RequestContext context;
    Instance instance;  // network_info filled, tap_name set
    std::map<std::string, std::string> injected_files;
};

class VirtDriver {
public:
    virtual ~VirtDriver() = default;

    virtual Result<void> init_host(const std::string& host) = 0;
    virtual void set_event_listener(std::function<void(const LifecycleEvent&)> listener) = 0;

    virtual Result<void> spawn(const SpawnRequest& request) = 0;  // on error nothing is left behind
    virtual Result<void> destroy(
        const Instance& instance) = 0;  // stops and removes all; absent is fine
    virtual Result<void> power_on(const Instance& instance) = 0;
    // Asks the guest first when timeout_s > 0, then pulls the plug.
    virtual Result<void> power_off(const Instance& instance, int64_t timeout_s) = 0;
    virtual Result<void> reboot(const Instance& instance, RebootType type) = 0;
    virtual Result<void> pause(const Instance& instance) = 0;
    virtual Result<void> unpause(const Instance& instance) = 0;

    virtual Result<InstanceInfo> get_info(
        const Instance& instance) = 0;  // NotFound: not on this host
    virtual Result<std::vector<std::string>> list_instance_uuids() = 0;
    virtual Result<std::string> get_console_output(const Instance& instance,
                                                   int64_t tail_lines) = 0;
    virtual Result<Json> get_instance_diagnostics(const Instance& instance) = 0;
    virtual Result<HostResources> get_available_resource() = 0;
    // Now and then: frees what no spawn wanted for long.
    virtual void manage_image_cache() {}
};

}  // namespace kumoi::compute
