// NovaMoves: MoveRecords in a real OpenStack: Migration objects and the server's migration context
// in nova-conductor, allocations in Placement, casts to other hosts' compute services, and
// conductor's migrate_server when another host shall try. What of it is a server's own record is
// NovaConductor's. Any thread; blocks for round trips.
#pragma once

#include <string>
#include <vector>

#include "api/nova/nova_conductor.h"
#include "compute/manager/move_records.h"

namespace kumoi::nova {

class NovaMoves final : public compute::MoveRecords {
public:
    struct Borders {
        NovaConductor& conductor;
        ObjectClient& objects;
        Allocations& allocations;
        NodeRecords& node;
        const Clock& clock;
        Random& random;
    };
    explicit NovaMoves(const Borders& borders) : borders_(borders) {}

    Result<compute::Migration> migration(const std::string& uuid, bool fresh) override;
    Result<void> check_peer(const std::string& host, const std::string& node) override;
    Result<void> prepare(const std::string& uuid, const compute::InstanceUpdate& update,
                         const std::string& host, const std::string& host_ip) override;
    Result<void> save_host(const std::string& uuid, const compute::InstanceUpdate& update,
                           compute::MoveEnd end) override;
    Result<void> drop_context(const std::string& uuid) override;
    Result<void> cast(const std::string& uuid, compute::MoveCast what,
                      const std::string& disk_info) override;
    Result<void> reschedule(const compute::RequestContext& context, const std::string& uuid,
                            const Error& reason) override;
    Result<bool> sees_file(const std::string& uuid, const std::string& host,
                           const std::string& name) override;
    Result<void> return_allocations(const std::string& uuid) override;
    Result<void> drop_allocations(const std::string& uuid) override;
    Result<void> drop_allocation_here(const std::string& uuid) override;
    Result<std::vector<compute::EvacuatedServer>> evacuated_from_here() override;
    Result<void> evacuation_completed(const compute::EvacuatedServer& server) override;
    Result<void> count_moves(std::vector<compute::Instance>& servers) override;

private:
    using Known = NovaConductor::Known;
    Json admin() const;
    // The server's migration, asked for when no request brought it.
    Result<NovaObject*> need_migration(const Known& known, const std::string& uuid);
    Result<void> save(const Known& known, const compute::InstanceUpdate& update);
    NovaObject migration_context(const NovaObject& instance, const NovaObject& migration) const;
    Result<compute::Instance> counted(const NovaObject& migration, bool is_destination);
    Result<void> cast_to(const std::string& host, const Json& context, const std::string& method,
                         Json arguments);

    const Borders borders_;
};

// The compute service of a host.
amqp::Target compute_target(const std::string& host);
compute::Migration migration_from(const NovaObject& object);

}  // namespace kumoi::nova
