// Conductor, part three: the verbs on a server that exists. Each one checks and writes in one
// transaction, then casts; a cast that is refused takes the write back.
#include "base/log.h"
#include "compute/conductor/conductor.h"
#include "compute/vm_states.h"

namespace kumoi::compute {

Result<void> Conductor::start_server(const RequestContext& context, const std::string& uuid) {
    return run_verb(context, uuid, ServerVerb::Start, task_states::kPoweringOn,
                    [&](ComputeApi& api) { return api.start_instance(context, uuid); });
}

Result<void> Conductor::stop_server(const RequestContext& context, const std::string& uuid) {
    return run_verb(context, uuid, ServerVerb::Stop, task_states::kPoweringOff,
                    [&](ComputeApi& api) { return api.stop_instance(context, uuid, true); });
}

Result<void> Conductor::reboot_server(const RequestContext& context, const std::string& uuid,
                                      RebootType type) {
    const bool soft = type == RebootType::Soft;
    return run_verb(context, uuid, soft ? ServerVerb::RebootSoft : ServerVerb::RebootHard,
                    soft ? task_states::kRebooting : task_states::kRebootingHard,
                    [&](ComputeApi& api) { return api.reboot_instance(context, uuid, type); });
}

Result<void> Conductor::pause_server(const RequestContext& context, const std::string& uuid) {
    return run_verb(context, uuid, ServerVerb::Pause, task_states::kPausing,
                    [&](ComputeApi& api) { return api.pause_instance(context, uuid); });
}

Result<void> Conductor::unpause_server(const RequestContext& context, const std::string& uuid) {
    return run_verb(context, uuid, ServerVerb::Unpause, task_states::kUnpausing,
                    [&](ComputeApi& api) { return api.unpause_instance(context, uuid); });
}

Result<void> Conductor::suspend_server(const RequestContext& context, const std::string& uuid) {
    return run_verb(context, uuid, ServerVerb::Suspend, task_states::kSuspending,
                    [&](ComputeApi& api) { return api.suspend_instance(context, uuid); });
}

Result<void> Conductor::resume_server(const RequestContext& context, const std::string& uuid) {
    return run_verb(context, uuid, ServerVerb::Resume, task_states::kResuming,
                    [&](ComputeApi& api) { return api.resume_instance(context, uuid); });
}

Result<void> Conductor::run_verb(const RequestContext& context, const std::string& uuid,
                                 ServerVerb verb, const char* task_state, const Cast& cast) {
    TRY(run_verb(context, uuid, VerbCall{verb, task_state, cast}));
    return {};
}

Result<InstancePtr> Conductor::run_verb(const RequestContext& context, const std::string& uuid,
                                        const VerbCall& call) {
    ComputeApi* api = nullptr;
    Instance before;
    InstancePtr accepted = TRY(instances_.update(
        uuid,
        [&](Instance& instance) -> Result<void> {
            if (!call.ignores_lock) {
                TRY(check_lock(context, instance));
            }
            TRY(check_instance_state(instance, call.verb));
            before = instance;
            instance.task_state = call.task_state;
            instance.task_arguments = {};
            instance.task_arguments.old_vm_state = instance.vm_state;
            if (call.change) {
                TRY(call.change(instance));
            }
            api = TRY(host_of(instance));
            return {};
        },
        [&](SqlSession& sql) -> Result<void> {
            TRY(actions_.start(sql, context, uuid, to_string(call.verb)));
            return call.extra ? call.extra(sql) : Result<void>();
        }));
    const auto outcome = call.cast(*api);
    if (outcome.ok()) {
        return accepted;
    }
    TRY(instances_.update(uuid, [&](Instance& instance) -> Result<void> {
        if (instance.task_state == call.task_state) {
            instance = before;
        }
        return {};
    }));
    TRY(actions_.fail(context, uuid, event_of(call.verb), outcome.error()));
    return outcome.error();
}

Result<void> Conductor::check_lock(const RequestContext& context, const Instance& instance) const {
    if (instance.locked && !context.is_admin) {
        return Error::conflict("Instance {} is locked", instance.uuid)
            .with_hint(instance.locked_reason ? "Reason: " + *instance.locked_reason
                                              : "Unlock it first (openstack server unlock).")
            .with_fault("InstanceIsLocked");
    }
    return {};
}

Result<ComputeApi*> Conductor::host_of(const Instance& instance) const {
    if (instance.host.empty()) {
        return Error::conflict("Instance {} is not ready", instance.uuid)
            .with_hint("It is on no host; its fault says why (openstack server show).")
            .with_fault("InstanceNotReady");
    }
    return hosts_.get(instance.host);
}

Result<void> Conductor::lock_server(const RequestContext& context, const std::string& uuid,
                                    const std::optional<std::string>& reason) {
    TRY(instances_.update(
        uuid,
        [&](Instance& instance) -> Result<void> {
            const bool is_owner = instance.project_id == context.project_id;
            if (instance.locked && instance.locked_by == "admin" && is_owner) {
                return {};  // Nova: the owner's lock does not replace an administrator's
            }
            instance.locked = true;
            instance.locked_by = is_owner ? "owner" : "admin";
            instance.locked_reason = reason;
            return {};
        },
        [&](SqlSession& sql) { return actions_.start(sql, context, uuid, "lock"); }));
    return {};
}

Result<void> Conductor::unlock_server(const RequestContext& context, const std::string& uuid) {
    TRY(instances_.update(
        uuid,
        [&](Instance& instance) -> Result<void> {
            if (instance.locked && instance.locked_by == "admin" && !context.is_admin) {
                return Error::forbidden(
                           "Policy doesn't allow os_compute_api:os-lock-server:unlock:"
                           "unlock_override to be performed.")
                    .with_hint("An administrator locked this server and must unlock it.")
                    .with_fault("PolicyNotAuthorized");
            }
            instance.locked = false;
            instance.locked_by.clear();
            instance.locked_reason = std::nullopt;
            return {};
        },
        [&](SqlSession& sql) { return actions_.start(sql, context, uuid, "unlock"); }));
    return {};
}

Result<void> Conductor::reset_state(const RequestContext& context, const std::string& uuid,
                                    const std::string& vm_state) {
    TRY(instances_.update(uuid, [&](Instance& instance) -> Result<void> {
        instance.vm_state = vm_state;
        instance.task_state = std::nullopt;
        instance.task_arguments = {};
        return {};
    }));
    log_info("conductor", "state reset by an administrator",
             {{"server", uuid}, {"vm_state", vm_state}, {"user", context.user_id}});
    return {};
}

Result<InstancePtr> Conductor::change_server(const RequestContext& context, const std::string& uuid,
                                             const InstanceStore::Change& change) {
    return instances_.update(uuid, [&](Instance& instance) -> Result<void> {
        TRY(check_lock(context, instance));
        return change(instance);
    });
}

Result<std::string> Conductor::console_output(const RequestContext& context,
                                              const std::string& uuid, int64_t tail_lines) {
    const InstancePtr stored = TRY(instances_.get(uuid));
    return TRY(host_of(stored->instance))->get_console_output(context, uuid, tail_lines);
}

Result<ConsoleConnection> Conductor::vnc_console(const RequestContext& context,
                                                 const std::string& uuid) {
    const InstancePtr stored = TRY(instances_.get(uuid));
    return TRY(host_of(stored->instance))->get_vnc_console(context, uuid);
}

Result<ConsoleConnection> Conductor::serial_console(const RequestContext& context,
                                                    const std::string& uuid) {
    const InstancePtr stored = TRY(instances_.get(uuid));
    return TRY(host_of(stored->instance))->get_serial_console(context, uuid);
}

Result<Json> Conductor::diagnostics(const RequestContext& context, const std::string& uuid) {
    const InstancePtr stored = TRY(instances_.get(uuid));
    return TRY(host_of(stored->instance))->get_instance_diagnostics(context, uuid);
}

Result<double> Conductor::host_uptime(const std::string& host) {
    return TRY(hosts_.get(host))->get_host_uptime();
}

}  // namespace kumoi::compute
