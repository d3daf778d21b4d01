#include "compute/manager/verb.h"

#include "base/log.h"
#include "compute/manager/unsettled.h"
#include "compute/nic_slots.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr size_t kFaultMessageMax = 255;  // Nova's column

void warn_unless_ok_or_gone(const Result<void>& result, std::string_view what) {
    if (!result.ok() && !is_instance_gone(result.error())) {
        log_warn("compute", what, {{"why", result.error().text()}});
    }
}

// What Nova's decorators do with an exception of the operation.
void record_failure(NodeServices& services, const std::string& uuid, const Error& error) {
    if (is_instance_gone(error)) {
        log_info("compute", "the server went away during the operation");
        return;
    }
    if (is_unexpected_task_state(error)) {
        log_info("compute", "another operation took the server over", {{"why", error.text()}});
        return;
    }
    log_error("compute", "operation failed", {{"why", error.text()}});
    InstanceUpdate update;
    update.task_state = std::optional<std::string>();
    warn_unless_ok_or_gone(services.conductor.instance_save(uuid, update),
                           "task state was not cleared");
    record_fault(services, uuid, error);
}

// For recovery: the request itself does not come again.
void keep_arguments(NodeServices& services, const std::string& uuid, uint64_t journal_id) {
    const TaskArguments arguments = services.conductor.task_arguments(uuid);
    if (!(arguments == TaskArguments())) {
        services.journal.step(journal_id, step_of(arguments));
    }
}

bool stays_open(NodeServices& services, const Operation& operation) {
    return services.unsettled != nullptr && UnsettledOperations::is_in_doubt() &&
           services.unsettled->add(operation.journal_id);
}

void run_and_close(NodeServices& services, const VerbInfo& info, const Operation& operation,
                   const std::function<Result<void>(const Operation&)>& function) {
    const int64_t started = services.clock.monotonic_ns();
    const UnsettledOperations::Scope scope;
    const Result<void> result = function(operation);
    if (stays_open(services, operation)) {
        log_warn("compute", "records could not be written; the operation is looked at again",
                 {{"verb", info.verb}, {"why", result.ok() ? "" : result.error().text()}});
        return;
    }
    std::optional<Error> failure;
    if (!result.ok()) {
        failure = result.error();
        if (info.cleans_up_itself) {
            log_error("compute", "operation failed", {{"why", failure->text()}});
        } else {
            record_failure(services, operation.uuid, *failure);
        }
    }
    if (!operation.context.request_id.empty() && !info.event.empty()) {
        warn_unless_ok_or_gone(
            services.conductor.action_event_finish(operation.context, operation.uuid,
                                                   std::string(info.event), failure),
            "the end of the event was not recorded");
    }
    if (!stays_open(services, operation)) {
        services.journal.done(operation.journal_id);
        if (services.unsettled != nullptr) {
            services.unsettled->forget(operation.journal_id);
        }
    }
    log_debug(
        "compute", info.verb,
        {{"ok", result.ok()}, {"ms", (services.clock.monotonic_ns() - started) / kNanosPerMilli}});
}

}  // namespace

void record_fault(NodeServices& services, const std::string& uuid, const Error& error) {
    warn_unless_ok_or_gone(services.conductor.fault_create(uuid, fault_from(error, services.clock)),
                           "the fault was not recorded");
}

void run_verb(NodeServices& services, const VerbInfo& info, const RequestContext& context,
              const std::string& uuid,
              const std::function<Result<void>(const Operation&)>& operation) {
    const LogScope scope({{"request", context.request_id}, {"server", uuid}});
    auto journal_id = services.journal.begin(info.verb, uuid, context);
    if (!journal_id.ok()) {
        record_failure(services, uuid, journal_id.error());
        return;
    }
    keep_arguments(services, uuid, *journal_id);
    if (!context.request_id.empty() &&
        !info.event.empty()) {  // without one there is no action to hang the event on
        warn_unless_ok_or_gone(services.conductor.action_event_start(
                                   context, uuid, std::string(info.event), services.options.host),
                               "the start of the event was not recorded");
    }
    run_and_close(services, info, {context, uuid, *journal_id}, operation);
}

void resume_verb(NodeServices& services, const VerbInfo& info, const Operation& operation,
                 const std::function<Result<void>(const Operation&)>& function) {
    const LogScope scope({{"request", operation.context.request_id}, {"server", operation.uuid}});
    log_info("compute", "going on with an operation that was cut short", {{"verb", info.verb}});
    run_and_close(services, info, operation, function);
}

void warn_unless_ok(const Result<void>& result, std::string_view what) {
    if (!result.ok()) {
        log_warn("compute", what, {{"why", result.error().text()}});
    }
}

bool is_unexpected_task_state(const Error& error) {
    return error.fault == "UnexpectedTaskStateError" ||
           error.fault == "UnexpectedDeletingTaskStateError";
}

bool is_instance_gone(const Error& error) {
    return error.fault == "InstanceNotFound";
}

bool is_taken_over(const Error& error) {
    return is_unexpected_task_state(error) || is_instance_gone(error);
}

Fault fault_from(const Error& error, const Clock& clock) {
    Fault fault;
    fault.code = error.code == ErrorCode::NotFound ? 404 : 500;
    fault.message = error.message.substr(0, kFaultMessageMax);
    fault.details = error.text();
    fault.created_ns = clock.wall_ns();
    return fault;
}

InstanceUpdate to_task_state(std::optional<std::string> to,
                             std::vector<std::optional<std::string>> expected) {
    InstanceUpdate update;
    update.task_state = std::move(to);
    update.expected_task_state = std::move(expected);
    return update;
}

void set_error_state(NodeServices& services, const std::string& uuid) {
    if (services.unsettled != nullptr && UnsettledOperations::is_in_doubt()) {
        return;  // the records may say by now that it went well; the operation is looked at again
    }
    InstanceUpdate update;
    update.vm_state = vm_states::kError;
    const auto saved = services.conductor.instance_save(uuid, update);
    if (!saved.ok() && !is_instance_gone(saved.error())) {
        log_error("compute", "state ERROR was not recorded", {{"why", saved.error().text()}});
    }
}

int power_state_of(VirtDriver& driver, const Instance& instance) {
    const auto info = driver.get_info(instance);
    return info.ok() ? info->power_state : power_states::kNoState;
}

Result<std::vector<VifInfo>> plug_all(NodeServices& services, const Instance& instance) {
    std::vector<VifInfo> vifs = instance.network_info;
    assign_nic_slots(vifs);
    for (VifInfo& vif : vifs) {
        vif.tap_name =
            TRY_CONTEXT(services.vifs.plug(instance, vif), "plugging port {}", vif.port_id);
    }
    return vifs;
}

Result<void> unplug_all(NodeServices& services, const Instance& instance) {
    Result<void> first_failure;
    for (const VifInfo& vif : instance.network_info) {
        auto result = services.vifs.unplug(instance, vif);
        if (!result.ok() && first_failure.ok()) {
            first_failure =
                std::move(result).error().with_context("unplugging port " + vif.port_id);
        }
    }
    return first_failure;
}

}  // namespace kumoi::compute
