// NovaDatabase: nova-conductor with its records, in memory, for tests of everything above the
// messages: instances with compare-and-set, their caches, events, faults, migrations, and
// Placement's allocations. Each request is a border of the CallLog: a test fails it, loses its
// answer or crashes the node there. One thread;
// only the compute node's record, which is not kept, may come from others.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "api/amqp/rpc_client.h"
#include "api/nova/nova_conductor.h"
#include "tests/support/compute_fakes.h"

namespace kumoi::test {

class NovaDatabase final : public amqp::RpcClient, public nova::Allocations {
public:
    explicit NovaDatabase(compute::CallLog& log, const Clock& clock) : log_(log), clock_(clock) {}

    // After a request was done and before its answer is sent: an error is what the node sees.
    std::function<Result<void>(const std::string& call)> answer;

    Result<Json> call(const amqp::Target& target, const Json& context, const std::string& method,
                      Json args, amqp::CallOptions options = {}) override;
    Result<void> cast(const amqp::Target& target, const Json& context, const std::string& method,
                      Json args) override;

    Result<void> remove(const compute::RequestContext& context,
                        const std::string& consumer) override;
    Result<void> move(const compute::RequestContext& context, const std::string& source,
                      const std::string& target) override;
    Result<void> remove_from(const compute::RequestContext& context, const std::string& consumer,
                             const std::string& provider) override;
    Result<std::vector<std::string>> consumers_on(const std::string& provider) override;

    // An Instance primitive; what a request brings.
    void add(Json primitive);
    Json primitive(const std::string& uuid) const;                              // null when unknown
    std::string text(const std::string& uuid, const std::string& field) const;  // "" for null
    bool is_deleted(const std::string& uuid) const;
    // As nova-api changes a record.
    void set(const std::string& uuid, const std::string& field, Json value);

    struct Sent {
        std::string method;
        Json args;
    };
    std::vector<Sent> sent;  // all but the compute node's own record
    // Consumers, each on its only host or, as "consumer@provider", on one of several.
    std::set<std::string> allocations;
    std::multiset<std::string> open_events;  // "uuid event"
    std::map<std::string, int> faults;
    std::vector<std::string> casts;            // "build_instances", ...
    std::vector<Json> migrations;              // primitives
    std::map<int64_t, Json> block_devices;     // primitives by id
    std::map<std::string, Json> vifs;          // VirtualInterface primitives by port
    std::map<std::string, std::string> nodes;  // host -> provider; empty: recorded by nobody
    std::set<std::string> forced_down;         // hosts

    // Calls to compute services.
    std::function<Result<Json>(const std::string& host, const std::string& method, Json args)>
        peers;
    // Casts to compute services that wait in the broker, where there are several hosts.
    struct Delivery {
        std::string host, method;
        Json context, args;
    };
    std::deque<Delivery> deliveries;

    Json migration(const std::string& uuid) const;  // null when unknown
    // Which of a host's own records (Service, ComputeNode) were made and saved.
    std::set<std::string> own_records() const;

private:
    Result<Json> class_action(const Json& context, const Json& args);
    Result<Json> object_action(const Json& context, const Json& args);
    Result<Json> instance_action(const Json& context, const Json& object, const Json& args);
    Result<Json> instances(const Json& context, const Json& args) const;
    Result<Json> service(const std::string& host) const;
    Result<Json> compute_node(const std::string& host) const;
    Json migrations_like(const Json& args, const std::string& method) const;
    Result<Json> block_device_action(const Json& object, const std::string& method);
    void save_migration(const Json& object);
    Json list(const std::string& name, Json objects) const;

    compute::CallLog& log_;
    const Clock& clock_;
    std::map<std::string, Json> instances_;  // primitives by uuid
    mutable std::mutex own_mutex_;
    std::set<std::string> own_records_;
};

}  // namespace kumoi::test
