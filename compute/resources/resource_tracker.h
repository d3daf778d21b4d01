// ResourceTracker: what this node has, what its servers use, and the promise that a server is
// counted exactly once. A build claims before it touches anything; the claim releases itself unless
// kept. Limits are Nova's: total * allocation ratio - reserved, per resource. Any thread; nothing
// blocks.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "compute/driver/virt_driver.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct ResourceOptions {
    std::string uuid;  // of the compute node record
    std::string host;
    std::string host_ip;
    int64_t reserved_memory_mb = 512;
    double cpu_allocation_ratio = 4.0;
    double ram_allocation_ratio = 1.0;
    double disk_allocation_ratio = 1.0;
};

struct Usage {
    int64_t vcpus = 0;
    int64_t memory_mb = 0;
    int64_t disk_gb = 0;
};

class ResourceTracker;

// Holds one server's share. Destroyed without keep(): the share is free again.
class Claim {
public:
    Claim() = default;
    Claim(Claim&& other) noexcept;
    Claim& operator=(Claim&& other) noexcept;
    ~Claim() { abort(); }
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;
    void keep() { tracker_ = nullptr; }
    void abort();

private:
    friend class ResourceTracker;
    Claim(ResourceTracker& tracker, std::string uuid)
        : tracker_(&tracker), uuid_(std::move(uuid)) {}
    ResourceTracker* tracker_ = nullptr;
    std::string uuid_;
};

class ResourceTracker {
public:
    ResourceTracker(ResourceOptions options, const Clock& clock);

    // Called after each change of what is used, without the lock. Set before the first claim.
    void set_change_listener(std::function<void()> listener) { on_change_ = std::move(listener); }

    // Refuses with fault ComputeResourcesUnavailable, Conflict when this server is counted already.
    Result<Claim> claim(const Instance& instance);
    // Holds instance.new_flavor besides the flavor it has, until set_share(). Refuses as claim().
    Result<void> resize_claim(const Instance& instance);
    // Counts the server as the record says now: after a resize was confirmed, reverted or undone.
    void set_share(const Instance& instance);
    void release(const std::string& uuid);  // unknown is fine
    bool is_tracked(const std::string& uuid) const;

    // The periodic audit. begin_update() before the servers are listed, so that one which is
    // released while the list is made does not come back. update() takes over a fresh inventory,
    // counts every given server and forgets those that are neither given nor claimed by a build
    // that still runs.
    void begin_update();
    void update(const HostResources& inventory, const std::vector<Instance>& instances);
    void set_building(const std::string& uuid, bool building);

    ComputeNode compute_node() const;

private:
    struct Share {
        Usage usage;
        bool building = false;
    };
    Result<void> check_limits(const Usage& asked, const Usage& used) const;

    const ResourceOptions options_;
    const Clock& clock_;
    std::function<void()> on_change_;
    mutable std::mutex mutex_;  // guards everything below
    HostResources inventory_;
    std::unordered_map<std::string, Share> shares_;
    Usage used_;                                // the sum of shares_
    std::unordered_set<std::string> released_;  // since begin_update()
    int64_t updated_ns_ = 0;
};

}  // namespace kumoi::compute
