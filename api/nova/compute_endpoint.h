// ComputeEndpoint: the methods of Nova's compute RPC API (5.13 and 6.0 to 6.5) as this node answers
// them: arguments are decoded, the server's object is handed to NovaConductor, and the manager's
// verb of the same name does the work. A method that the node cannot do is refused with the
// exception Nova's callers expect. docs/reference/nova-rpc.md lists all methods. Called by the RPC
// server's pool; any thread.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "api/amqp/rpc_server.h"
#include "api/nova/fixed_ips.h"
#include "api/nova/host_power.h"
#include "api/nova/node_extras.h"
#include "api/nova/nova_conductor.h"
#include "compute/manager/compute_api.h"
#include "compute/manager/external_events.h"

namespace kumoi::nova {

// Consoles of this node's servers, as proxies on other hosts reach them.
class ConsolePorts {
public:
    virtual ~ConsolePorts() = default;
    // The dictionary Nova's API expects: {host, port, internal_access_path, token, access_url}.
    virtual Result<Json> connect(const Json& context, const std::string& uuid,
                                 const std::string& console_type) = 0;
    // Whether this port is that server's console of that type.
    virtual bool is_valid(const std::string& uuid, const std::string& port,
                          const std::string& console_type) = 0;
};

class ComputeEndpoint {
public:
    struct Borders {
        compute::ComputeApi& manager;
        NovaConductor& conductor;
        ObjectClient& objects;
        NodeRecords& node;
        compute::ExternalEvents& events;
        ConsolePorts& consoles;
        NodeExtras* extras = nullptr;  // null: their methods are refused; so are those of the next
        FixedIps* fixed_ips = nullptr;
        const HostPower* host_power = nullptr;
    };
    explicit ComputeEndpoint(const Borders& borders) : borders_(borders) {}

    // Errors carry Nova's exception in `fault`: NoSuchMethod and UnsupportedVersion too.
    Result<Json> handle(const amqp::RpcRequest& request);
    static std::vector<std::string_view> methods();

private:
    struct Call;
    using Handler = Result<Json> (ComputeEndpoint::*)(Call&);
    using Verb = Result<void> (compute::ComputeApi::*)(const compute::RequestContext&,
                                                       const std::string&);
    struct Entry {
        Handler handler = nullptr;
        Verb verb = nullptr;            // for those that need the server only
        std::string_view refusal = {};  // exception of a method that cannot be done
        std::string_view refusal_text = {};
    };
    static const std::map<std::string_view, Entry>& entries();
    static std::map<std::string_view, Entry> entries_a_to_l();
    static std::map<std::string_view, Entry> entries_p_to_v();

    Result<Json> refuse(Call& call, const Entry& entry);
    Result<NovaObject> instance_of(Call& call);
    Result<std::string> adopt(Call& call, compute::TaskArguments arguments = {});

    Result<Json> build_and_run(Call& call);
    Result<Json> terminate(Call& call);
    Result<Json> stop(Call& call);
    Result<Json> reboot(Call& call);
    Result<Json> rescue(Call& call);
    Result<Json> rebuild(Call& call);
    Result<Json> snapshot(Call& call);
    Result<Json> backup(Call& call);
    Result<Json> shelve(Call& call);
    Result<Json> console_output(Call& call);
    Result<Json> diagnostics(Call& call);
    Result<Json> instance_diagnostics(Call& call);
    Result<Json> host_uptime(Call& call);
    Result<Json> set_host_enabled(Call& call);
    Result<Json> external_event(Call& call);
    Result<Json> console(Call& call);
    Result<Json> validate_console_port(Call& call);
    Result<Json> shared_storage(Call& call);
    Result<compute::MoveRequest> adopt_move(Call& call, compute::MoveStep step);
    Result<Json> move(Call& call);
    Result<Json> evacuate(Call& call);
    Result<std::string> adopt_live(Call& call);
    Result<compute::LiveMigrateData> migrate_data(Call& call, std::string_view name);
    Result<Json> answer(Result<compute::LiveMigrateData> data);
    Result<Json> check_live_destination(Call& call);
    Result<Json> check_live_source(Call& call);
    Result<Json> live_migration(Call& call);
    Result<Json> live_migration_abort(Call& call);
    Result<Json> live_migration_force_complete(Call& call);
    Result<Json> pre_live_migration(Call& call);
    Result<Json> post_live_migration(Call& call);
    Result<Json> rollback_live_migration(Call& call);
    Result<Json> drop_move_claim(Call& call);
    Result<Json> attach_interface(Call& call);
    Result<Json> detach_interface(Call& call);
    Result<Json> attach_volume(Call& call);
    Result<Json> detach_volume(Call& call);
    Result<Json> swap_volume(Call& call);
    Result<Json> extend_volume(Call& call);
    Result<Json> reserve_block_device_name(Call& call);
    Result<Json> remove_volume_connection(Call& call);
    Result<Json> cache_images(Call& call);
    Result<Json> trigger_crash_dump(Call& call);
    Result<Json> set_admin_password(Call& call);
    Result<Json> quiesce(Call& call);
    Result<Json> unquiesce(Call& call);
    Result<Json> add_fixed_ip(Call& call);
    Result<Json> remove_fixed_ip(Call& call);
    Result<Json> inject_network_info(Call& call);
    Result<Json> host_power_action(Call& call);

    const Borders borders_;
};

}  // namespace kumoi::nova
