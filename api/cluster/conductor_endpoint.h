// ConductorEndpoint: what nova-conductor answers, as far as our own nodes ask it: remote methods of
// versioned objects (conductor 3.0), compute_task.build_instances and baseapi.ping, all kept by the
// standalone control plane. Called by the RPC server's pool; any thread.
#pragma once

#include <functional>
#include <string>

#include "api/amqp/rpc_server.h"
#include "api/cluster/records.h"
#include "compute/conductor/conductor.h"

namespace kumoi::cluster {

class ConductorEndpoint {
public:
    struct Borders {
        compute::Conductor& conductor;
        compute::Database& database;
        // A node has shown itself; also those that did before.
        std::function<void(const std::string& host)> host_seen;
    };
    static Result<std::unique_ptr<ConductorEndpoint>> create(Borders borders);

    // Errors carry Nova's exception in `fault`.
    Result<Json> handle(const amqp::RpcRequest& request);

    // A server as nodes are told of it.
    Result<Json> instance(const compute::Instance& record) const;

private:
    struct Call {
        compute::RequestContext context;
        bool read_deleted = false;
        std::string name;  // "Instance.save"
        const Json& args;
        const Json& kwargs;

        std::string text(size_t index) const;
        const Json* argument(size_t index) const;
    };
    explicit ConductorEndpoint(Borders borders) : borders_(std::move(borders)) {}

    Result<Json> class_action(const Call& call);
    Result<Json> migration_class_action(const Call& call);
    Result<Json> object_action(const Call& call, const Json& primitive);
    Result<Json> instance_action(const Call& call, const nova::NovaObject& object);
    Result<Json> host_action(const Call& call, const nova::NovaObject& object);
    Result<Json> save_migration(const nova::NovaObject& object);
    Result<Json> save_instance(const Call& call, const nova::NovaObject& object);
    Result<Json> build_instances(const amqp::RpcRequest& request);

    Result<Json> find_instance(const Call& call) const;
    Result<Json> instances_of(const std::string& host) const;
    Result<Json> filtered_instances(const Json& filters) const;
    Result<Json> migrations(const std::function<bool(const compute::MigrationRecord&)>& fits,
                            compute::MigrationQuery query) const;
    Result<Json> move_context(const std::string& uuid) const;
    Result<void> keep_move_context(const std::string& uuid, const Json& context);

    const Borders borders_;
};

}  // namespace kumoi::cluster
