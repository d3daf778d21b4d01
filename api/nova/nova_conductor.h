// NovaConductor: what a node's manager records and looks up (ConductorApi), kept by a real
// nova-conductor. It remembers each server's Instance object as it last saw it, because save() is
// done on the whole object with its changed fields (compare and set by expected_task_state), and
// the context of the request that works on the server.
//
// Threads: any; calls block for round trips. Calls for one server are serialised.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "api/nova/instance_notifications.h"
#include "api/nova/node_records.h"
#include "api/nova/object_client.h"
#include "api/nova/scheduler_news.h"
#include "base/clock.h"
#include "base/random.h"
#include "compute/manager/conductor_api.h"

namespace kumoi::nova {

// Placement's allocations, as far as the records of a server need them.
class Allocations {
public:
    virtual ~Allocations() = default;
    virtual Result<void> remove(const compute::RequestContext& context,
                                const std::string& consumer) = 0;  // absent is fine
    // All that `source` has becomes `target`'s, in place of what that has; none is fine.
    virtual Result<void> move(const compute::RequestContext& context, const std::string& source,
                              const std::string& target) = 0;
    // The consumer's part on this resource provider and those below it; absent is fine.
    virtual Result<void> remove_from(const compute::RequestContext& context,
                                     const std::string& consumer,
                                     const std::string& provider_uuid) = 0;
    // Servers (and migrations) that have a part of this resource provider.
    virtual Result<std::vector<std::string>> consumers_on(const std::string& provider_uuid) = 0;
};

// What a build was asked to do; a reschedule hands it back to conductor.
struct BuildArguments {
    Json arguments;  // of build_and_run_instance, by Nova's names
};

class NovaConductor final : public compute::ConductorApi {
public:
    struct Borders {
        ObjectClient& objects;
        Allocations& allocations;
        NodeRecords& node;
        SchedulerNews& scheduler;
        const Clock& clock;
        Random& random;
        int64_t scheduler_sync_s = 120;  // 0: schedulers are not told of all servers now and then
        const InstanceNotifications* notifications = nullptr;  // null: nobody is told
    };
    explicit NovaConductor(const Borders& borders) : borders_(borders) {}

    // A request brought this server's object (and what the verb needs besides); the next
    // instance_get() answers with it. Returns it as the manager knows it.
    Result<compute::Instance> adopt(const compute::RequestContext& context, NovaObject instance,
                                    compute::TaskArguments arguments = {});
    void adopt_build(const std::string& uuid, BuildArguments build);
    // The migration that the following verb of this server is about, and the request's arguments.
    void adopt_migration(const std::string& uuid, NovaObject migration, Json arguments = {});

    // What is known of a server, for what is recorded beside the manager's own saves (NovaMoves).
    struct Known {
        NovaObject& instance;
        std::optional<NovaObject>& migration;
        Json& arguments;  // of the request that brought the migration; null: not known
        const Json context;
    };
    // One caller a server at a time. After an error the server is read again when it is next used.
    Result<void> with_server(const std::string& uuid,
                             const std::function<Result<void>(const Known&)>& work);

    // What a move has written down of the server's old and new resources; none is fine.
    Result<void> drop_migration_context(const std::string& uuid);

    // The group that a build's request names (a uuid or a name); empty: none.
    std::string group_hint(const std::string& uuid);
    // Only moves updated_at.
    Result<void> touch(const std::string& uuid);
    // With what notifications need of the record; nothing when it cannot be read.
    void with_complete(const std::string& uuid,
                       const std::function<void(const NovaObject& instance)>& work);
    // Tells listeners that an action starts, or ends.
    void announce_start(const compute::RequestContext& context, const std::string& uuid,
                        const std::string& event);
    void announce_end(const compute::RequestContext& context, const std::string& uuid,
                      const std::string& event, const std::optional<Error>& failure);

    // What schedulers are told: a server has come to this host, or left it for good.
    void tell_arrival(const NovaObject& instance) { borders_.scheduler.updated(instance); }
    void tell_departure(const std::string& uuid) { borders_.scheduler.deleted(uuid); }

    // Of a migration that nobody will end any more.
    Result<void> drop_allocations_of(const Json& context, const std::string& consumer);

    // A cast this node cannot do: the action says so, a fault is recorded, task_state is cleared.
    Result<void> refuse(const compute::RequestContext& context, const std::string& uuid,
                        const std::string& event, const Error& reason);

    Result<compute::Instance> instance_get(const std::string& uuid) override;
    Result<std::vector<compute::Instance>> instances_by_host(const std::string& host) override;
    Result<void> instance_save(const std::string& uuid,
                               const compute::InstanceUpdate& update) override;
    Result<void> instance_destroy(const std::string& uuid) override;
    Result<void> fault_create(const std::string& uuid, const compute::Fault& fault) override;
    Result<void> action_event_start(const compute::RequestContext& context, const std::string& uuid,
                                    const std::string& event, const std::string& host) override;
    Result<void> action_event_finish(const compute::RequestContext& context,
                                     const std::string& uuid, const std::string& event,
                                     const std::optional<Error>& failure) override;
    Result<void> reschedule_build(const compute::RequestContext& context, const std::string& uuid,
                                  const Error& reason) override;
    compute::TaskArguments task_arguments(const std::string& uuid) override;
    void recall(const std::string& uuid, const compute::TaskArguments& arguments) override;
    Result<void> migration_save(const std::string& uuid, const std::string& status) override;
    Result<void> poll_servers(const std::string& host) override;
    Result<void> service_heartbeat(const std::string& host) override;
    Result<void> compute_node_update(const compute::ComputeNode& node) override;

private:
    struct Server {
        std::mutex mutex;  // one round trip about this server at a time; guards the rest
        std::optional<NovaObject> object;
        bool fresh = false;  // came with a request that nobody has looked at yet
        Json context;        // of the newest request
        compute::TaskArguments arguments;
        std::optional<BuildArguments> build;
        std::optional<NovaObject> migration;
        Json move_arguments;
        InstanceNotifications::Details announced;  // what the action began with
    };
    std::shared_ptr<Server> server(const std::string& uuid);
    void forget(const std::string& uuid);
    Result<std::vector<std::string>> uuids_here();
    Result<void> audit_allocations(const std::set<std::string>& here);
    // With server.mutex held.
    Result<void> load(Server& server, const std::string& uuid);
    Result<void> save(Server& server, const std::string& uuid,
                      const compute::InstanceUpdate& update);
    Json context_of(Server& server);
    bool is_lost_build(const NovaObject& instance);
    Result<void> end_lost_build(const NovaObject& instance);
    static InstanceNotifications::Details details_of(const Server& server);
    void complete(Server& server, const std::string& uuid);  // with server.mutex held
    Result<compute::Instance> record_of(const Server& server) const;

    const Borders borders_;
    std::mutex mutex_;
    std::map<std::string, std::shared_ptr<Server>> servers_;
    const int64_t started_wall_ns_ = borders_.clock.wall_ns();
    std::optional<int64_t> schedulers_told_ns_;  // of poll_servers() alone
};

}  // namespace kumoi::nova
