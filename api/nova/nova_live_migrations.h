// NovaLiveMigrations: LiveMigrationRecords in a real OpenStack: Migration objects in
// nova-conductor, allocations in Placement, calls to the other host's compute service,
// notifications. What of it is a server's own record is NovaConductor's. Any thread; blocks for
// round trips.
#pragma once

#include <string>

#include "api/nova/instance_notifications.h"
#include "api/nova/nova_conductor.h"
#include "compute/manager/live_migration_records.h"

namespace kumoi::nova {

class NovaLiveMigrations final : public compute::LiveMigrationRecords {
public:
    struct Borders {
        NovaConductor& conductor;
        ObjectClient& objects;
        Allocations& allocations;
        NodeRecords& node;
        const Clock& clock;
        Random& random;
        const InstanceNotifications* notifications = nullptr;  // null: nobody is told
    };
    explicit NovaLiveMigrations(const Borders& borders) : borders_(borders) {}

    using Context = compute::RequestContext;
    using Data = compute::LiveMigrateData;

    Result<compute::Migration> live_migration(const std::string& uuid) override;
    Result<void> save_progress(const std::string& uuid,
                               const compute::LiveMigrationProgress& progress) override;
    Result<void> save_host(const std::string& uuid, const compute::InstanceUpdate& update,
                           const std::string& host) override;
    Result<void> drop_context(const std::string& uuid) override;
    Result<bool> is_fenced(const std::string& host) override;
    Result<void> return_allocations(const std::string& uuid) override;
    Result<void> drop_allocations(const std::string& uuid) override;
    Result<void> forget_consoles(const std::string& uuid) override;
    void announce(const Context& context, const std::string& uuid, compute::LiveMigrationNews news,
                  bool begins) override;

    Result<Data> check_can_live_migrate_source(const Context& context, const std::string& uuid,
                                               const std::string& host, const Data& data) override;
    Result<Data> pre_live_migration(const Context& context, const std::string& uuid,
                                    const std::string& host, const std::string& disks,
                                    const Data& data) override;
    Result<void> post_live_migration_at_destination(const Context& context, const std::string& uuid,
                                                    const std::string& host,
                                                    bool block_migration) override;
    Result<void> rollback_live_migration_at_destination(const Context& context,
                                                        const std::string& uuid,
                                                        const std::string& host, bool destroy_disks,
                                                        const Data& data) override;
    Result<void> remove_volume_connection(const Context& context, const std::string& uuid,
                                          const std::string& host,
                                          const std::string& volume_id) override;
    Result<void> terminate_instance(const Context& context, const std::string& uuid,
                                    const std::string& host) override;

private:
    using Known = NovaConductor::Known;
    Result<NovaObject*> need_migration(const Known& known, const std::string& uuid);
    // The server's record and the migration's, as the other host is told them.
    Result<Json> arguments(const std::string& uuid, Json* migration = nullptr);
    Result<Json> ask(const Context& context, const std::string& host, const std::string& method,
                     Json args);
    Result<void> tell(const Context& context, const std::string& host, const std::string& method,
                      Json args);
    Result<Data> ask_for_data(const Context& context, const std::string& host,
                              const std::string& method, Json args);

    const Borders borders_;
};

}  // namespace kumoi::nova
