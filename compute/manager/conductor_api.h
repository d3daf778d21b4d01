// ConductorApi: what a node's manager must record or look up, owned by compute/manager so that the
// manager knows no database and no wire. Standalone: compute/conductor (SQLite, in process).
// OpenStack mode (later): nova-conductor over RPC. All functions may be called from any thread and
// may block for milliseconds.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "compute/objects.h"

namespace kumoi::compute {

// Who asked, carried through every verb, log line and action event.
struct RequestContext {
    std::string request_id;  // "req-<uuid>"
    std::string user_id;
    std::string project_id;
    bool is_admin = false;
    // OpenStack mode: the request context as it came over RPC, passed on unchanged to whoever is
    // asked on the way (nova-conductor, Neutron, Glance, Cinder). Null for the node's own work.
    std::shared_ptr<const Json> wire = {};
};

// Only the fields that are set are changed; updated_at moves by itself. Clearing task_state clears
// the task's arguments too.
struct InstanceUpdate {
    std::optional<std::string> vm_state;
    std::optional<std::optional<std::string>> task_state;  // inner nullopt: set to null
    std::optional<int> power_state;
    std::optional<std::string> host;  // empty string: no host
    std::optional<std::string> node;
    std::optional<int64_t> launched_ns;
    std::optional<int64_t> terminated_ns;
    std::optional<int> progress;
    std::optional<std::string> root_device_name;  // "/dev/vda"
    std::optional<std::vector<VifInfo>> network_info;
    std::optional<Properties> system_metadata;
    std::optional<Flavor> flavor;
    std::optional<std::optional<Flavor>> old_flavor;  // inner nullopt: none
    std::optional<std::optional<Flavor>> new_flavor;
    // When set and the stored task_state is none of these, nothing changes and the call is a
    // Conflict with fault "UnexpectedTaskStateError" ("UnexpectedDeletingTaskStateError" while
    // deleting). An inner nullopt stands for null.
    std::optional<std::vector<std::optional<std::string>>> expected_task_state;
};

class ConductorApi {
public:
    virtual ~ConductorApi() = default;

    virtual Result<Instance> instance_get(
        const std::string& uuid) = 0;  // NotFound: InstanceNotFound
    virtual Result<std::vector<Instance>> instances_by_host(
        const std::string& host) = 0;  // not deleted ones
    virtual Result<void> instance_save(const std::string& uuid, const InstanceUpdate& update) = 0;
    virtual Result<void> instance_destroy(
        const std::string& uuid) = 0;  // marks deleted; usage freed
    virtual Result<void> fault_create(const std::string& uuid, const Fault& fault) = 0;

    // Instance action events ("compute__do_build_and_run_instance"); the action itself ("create")
    // was recorded by the API with the same request id.
    virtual Result<void> action_event_start(const RequestContext& context, const std::string& uuid,
                                            const std::string& event, const std::string& host) = 0;
    virtual Result<void> action_event_finish(const RequestContext& context, const std::string& uuid,
                                             const std::string& event,
                                             const std::optional<Error>& failure) = 0;

    // The build failed on this host in a way another host may do better: choose again (or give up
    // and set ERROR with the fault). Takes the server over; the caller has cleaned up its own
    // traces.
    virtual Result<void> reschedule_build(const RequestContext& context, const std::string& uuid,
                                          const Error& reason) = 0;

    // What the request under way was told besides the record, and after a restart: what the node
    // kept of it. Only where the records do not hold it themselves.
    virtual TaskArguments task_arguments(const std::string& uuid) {
        (void)uuid;
        return {};
    }
    virtual void recall(const std::string& uuid, const TaskArguments& arguments) {
        (void)uuid, (void)arguments;
    }

    // Sets the status of the server's migration that is not at its end; none is fine.
    virtual Result<void> migration_save(const std::string& uuid, const std::string& status) = 0;
    // What the control plane does now and then for the servers of a host: confirms resizes,
    // offloads shelved servers and deletes soft-deleted ones that have waited long enough.
    virtual Result<void> poll_servers(const std::string& host) = 0;

    virtual Result<void> service_heartbeat(const std::string& host) = 0;  // binary nova-compute
    virtual Result<void> compute_node_update(const ComputeNode& node) = 0;
};

}  // namespace kumoi::compute
