// NodeRecords: this node in nova-conductor's database: the Service record (nova-compute) with its
// signs of life, and the ComputeNode with its inventory. NOVA-COMPUTE contract 4.1 to 4.4. Any
// thread; calls block for round trips.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "api/nova/object_client.h"
#include "base/clock.h"
#include "base/random.h"
#include "compute/objects.h"

namespace kumoi::nova {

struct NodeOptions {
    std::string host;                 // CONF.host
    std::string hypervisor_hostname;  // name of the one node
    Release release = Release::Zed;
};

// One question to conductor with Nova's own words; `timeout_ms` for the answer.
Result<void> ping_conductor(ObjectClient& objects, const Clock& clock, Random& random,
                            int64_t timeout_ms);

class NodeRecords {
public:
    // Called after each record of the inventory: the resource provider follows it. `disabled`: the
    // operator disabled the service.
    using ProviderSync = std::function<Result<void>(const compute::ComputeNode&, bool disabled)>;

    NodeRecords(ObjectClient& objects, const Clock& clock, Random& random, NodeOptions options,
                ProviderSync sync)
        : objects_(objects),
          clock_(clock),
          random_(random),
          options_(std::move(options)),
          sync_(std::move(sync)) {}

    const std::string& host() const { return options_.host; }
    const std::string& node() const { return options_.hypervisor_hostname; }
    std::optional<int64_t> record_id();  // of the ComputeNode, once it is known
    // Of the node and its resource provider, once its inventory was recorded.
    std::optional<std::string> uuid();

    // The uuid this node must have: the one of its ComputeNode record, or nothing recorded. Refuses
    // a deployment whose floor is above our service version, and a record that is another host's.
    Result<std::optional<std::string>> recorded_uuid(const std::optional<std::string>& own_uuid);
    // Finds or makes the service record, with our version.
    Result<void> register_service();
    Result<void> heartbeat();
    // Records what changed of the inventory; the first time it finds or makes the ComputeNode.
    Result<void> update(const compute::ComputeNode& node);
    // nova-api told us ahead of the record (set_host_enabled).
    Result<void> set_enabled(bool enabled);
    // Another host's service, as it is recorded now.
    Result<bool> is_forced_down(const std::string& host);
    void count_build(bool succeeded);  // feeds the scheduler's BuildFailureWeigher

private:
    Json context();
    Result<void> find_node(const compute::ComputeNode& node);
    void fill(NovaObject& record, const compute::ComputeNode& node) const;

    ObjectClient& objects_;
    const Clock& clock_;
    Random& random_;
    const NodeOptions options_;
    const ProviderSync sync_;
    std::mutex mutex_;  // guards all below; held during round trips
    std::optional<NovaObject> service_;
    std::optional<NovaObject> node_;
    std::optional<compute::ComputeNode> inventory_;
    std::optional<bool> disabled_;
    int64_t failed_builds_ = 0;
};

}  // namespace kumoi::nova
