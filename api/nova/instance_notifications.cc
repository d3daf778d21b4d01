#include "api/nova/instance_notifications.h"

#include <algorithm>
#include <array>

#include "api/nova/notification_payload.h"

namespace kumoi::nova {
namespace {

constexpr char kStart[] = "start";
constexpr char kEnd[] = "end";
constexpr char kError[] = "error";

// Flags of an Action.
constexpr unsigned kErrors = 1;      // instance.X.error is sent for a failure
constexpr unsigned kExists = 2;      // the usage so far is told first
constexpr unsigned kIpsAtEnd = 4;    // legacy: fixed_ips at the end ...
constexpr unsigned kIpsAlways = 8;   // ... or always
constexpr unsigned kShutsDown = 16;  // instance.shutdown within
constexpr unsigned kNoStart = 32;
constexpr unsigned kNoEnd = 64;

// As Python prints a datetime: "2026-11-01 00:00:00", with microseconds where there are any.
std::string python_time(int64_t wall_ns) {
    constexpr int64_t kMicro = 1000;
    std::string text =
        wall_ns / kMicro % 1'000'000 == 0 ? iso8601(wall_ns) : iso8601_micros(wall_ns);
    text.pop_back();
    std::replace(text.begin(), text.end(), 'T', ' ');
    return text;
}

// One with a version in its path has it removed: Nova's links are without.
std::string without_slash(std::string url) {
    while (url.ends_with('/')) {
        url.pop_back();
    }
    return url;
}

// Null when the request did not bring one.
Json new_flavor_payload(const NovaObject& instance, const InstanceNotifications::Details& details) {
    const auto flavor = NovaObject::parse(instance.table(), details.new_flavor);
    return flavor.ok() ? flavor_payload(*flavor) : Json();
}

std::string volume_action(const compute::VolumeNews& news) {
    constexpr const char* kNames[] = {"attach", "detach", "swap"};
    return kNames[static_cast<int>(news.action)];
}

}  // namespace

// One kind of action, by the event that conductor records for it.
struct InstanceNotifications::Action {
    std::string_view event;
    std::string_view versioned;  // "pause": instance.pause.start; "": none
    std::string_view legacy;     // "pause": compute.instance.pause.start; "": none
    std::string_view payload = "InstanceActionPayload";
    unsigned flags = 0;

    bool is(unsigned flag) const { return (flags & flag) != 0; }
};

struct InstanceNotifications::Message {
    const NovaObject& instance;
    const Json& context;
    const Details& details;
    std::string_view phase;
    const std::optional<Error>& failure;
};

const InstanceNotifications::Action* InstanceNotifications::find(std::string_view event) {
    constexpr std::string_view kAction = "InstanceActionPayload";
    constexpr std::string_view kCreate = "InstanceCreatePayload";
    constexpr std::string_view kRescue = "InstanceActionRescuePayload";
    constexpr std::string_view kPrep = "InstanceActionResizePrepPayload";
    constexpr std::string_view kRebuild = "InstanceActionRebuildPayload";
    constexpr std::string_view kSnapshot = "InstanceActionSnapshotPayload";
    // clang-format off
    static constexpr std::array<Action, 37> kActions = {{
        {"compute__do_build_and_run_instance", "create", "create", kCreate, kErrors | kIpsAtEnd},
        {"compute_terminate_instance", "delete", "delete", kAction, kShutsDown},
        {"compute_stop_instance", "power_off", "power_off", kAction, 0},
        {"compute_start_instance", "power_on", "power_on", kAction, 0},
        {"compute_reboot_instance", "reboot", "reboot", kAction, kErrors},
        {"compute_pause_instance", "pause", "pause", kAction, 0},
        {"compute_unpause_instance", "unpause", "unpause", kAction, 0},
        {"compute_suspend_instance", "suspend", "suspend", kAction, 0},
        {"compute_resume_instance", "resume", "resume", kAction, 0},
        {"compute_rescue_instance", "rescue", "rescue", kRescue, kExists | kIpsAlways},
        {"compute_unrescue_instance", "unrescue", "unrescue", kAction, kIpsAlways},
        {"compute_rebuild_instance", "rebuild", "rebuild", kRebuild,
         kErrors | kExists | kIpsAtEnd},
        {"compute_snapshot_instance", "snapshot", "snapshot", kSnapshot, 0},
        {"compute_backup_instance", "snapshot", "snapshot", kSnapshot, 0},
        {"compute_shelve_instance", "shelve", "shelve", kAction, kExists},
        {"compute_shelve_offload_instance", "shelve_offload", "shelve_offload", kAction, 0},
        {"compute_unshelve_instance", "unshelve", "unshelve", kAction, 0},
        {"compute_soft_delete_instance", "soft_delete", "soft_delete", kAction, 0},
        {"compute_restore_instance", "restore", "restore", kAction, 0},
        {"compute_trigger_crash_dump", "trigger_crash_dump", "trigger_crash_dump", kAction, 0},
        {"compute_attach_interface", "interface_attach", "", kAction, kErrors},
        {"compute_detach_interface", "interface_detach", "", kAction, 0},
        {"compute_add_fixed_ip_to_instance", "", "create_ip", kAction, kIpsAtEnd},
        {"compute_remove_fixed_ip_from_instance", "", "delete_ip", kAction, kIpsAtEnd},
        {"compute_prep_resize", "resize_prep", "resize.prep", kPrep, kExists},
        {"compute_resize_instance", "resize", "resize", kAction, kErrors | kIpsAlways},
        {"compute_finish_resize", "resize_finish", "finish_resize", kAction, kIpsAlways},
        {"compute_confirm_resize", "resize_confirm", "resize.confirm", kAction, kIpsAtEnd},
        {"compute_revert_resize", "resize_revert", "resize.revert", kAction, kNoEnd | kExists},
        {"compute_finish_revert_resize", "resize_revert", "resize.revert", kAction, kNoStart},
        // Not of events: of steps within.
        {"live_migration_pre", "live_migration_pre", "live_migration.pre", kAction, kIpsAlways},
        {"live_migration_post", "live_migration_post", "live_migration._post", kAction,
         kIpsAlways},
        {"live_migration_post_dest", "live_migration_post_dest", "live_migration.post.dest",
         kAction, kIpsAlways},
        {"live_migration_rollback", "live_migration_rollback", "live_migration._rollback", kAction,
         0},
        {"live_migration_rollback_dest", "live_migration_rollback_dest",
         "live_migration.rollback.dest", kAction, kIpsAlways},
        {"live_migration_abort", "live_migration_abort", "live.migration.abort", kAction, 0},
        {"live_migration_force_complete", "live_migration_force_complete",
         "live.migration.force.complete", kAction, 0},
    }};
    // clang-format on
    const auto found = std::find_if(kActions.begin(), kActions.end(),
                                    [event](const Action& one) { return one.event == event; });
    return found == kActions.end() ? nullptr : &*found;
}

InstanceNotifications::InstanceNotifications(Sink sink, Release release, std::string host,
                                             std::string image_endpoint, const Clock& clock)
    : sink_(std::move(sink)),
      release_(release),
      host_(std::move(host)),
      image_endpoint_(without_slash(std::move(image_endpoint))),
      clock_(clock) {}

std::string InstanceNotifications::image_base(const Json& context) const {
    if (!image_endpoint_.empty()) {
        return image_endpoint_;
    }
    const Json* catalog = context.find("service_catalog");
    if (catalog == nullptr || !catalog->is_array()) {
        return {};
    }
    for (const Json& service : catalog->as_array()) {
        const Json* endpoints = service.find("endpoints");
        if (service.string_or("type") == "image" && endpoints != nullptr && endpoints->is_array() &&
            endpoints->size() > 0) {
            return without_slash(endpoints->as_array()[0].string_or("publicURL"));
        }
    }
    return {};
}

void InstanceNotifications::started(std::string_view event, const NovaObject& instance,
                                    const Json& context, const Details& details) const {
    const Action* action = find(event);
    if (action == nullptr || action->is(kNoStart)) {
        return;
    }
    if (action->is(kExists)) {
        exists(instance, context, current_audit_period(clock_.wall_ns()));
    }
    send(*action, {instance, context, details, kStart, std::nullopt});
    if (action->is(kShutsDown)) {
        send({.event = event, .versioned = "shutdown", .legacy = "shutdown"},
             {instance, context, details, kStart, std::nullopt});
    }
}

void InstanceNotifications::finished(std::string_view event, const NovaObject& instance,
                                     const Json& context, const Details& details,
                                     const std::optional<Error>& failure) const {
    const Action* action = find(event);
    if (action == nullptr) {
        return;
    }
    if (failure) {
        if (action->is(kErrors)) {
            send(*action, {instance, context, details, kError, failure});
        }
        if (sink_.wants(Format::Versioned)) {
            sink_.send(Format::Versioned, "ERROR", "nova-compute:" + host_, "compute.exception",
                       exception_payload(*failure, event.substr(event.find('_') + 1)), context);
        }
        return;
    }
    if (action->is(kNoEnd)) {
        return;
    }
    if (action->is(kShutsDown)) {
        send({.event = event, .versioned = "shutdown", .legacy = "shutdown"},
             {instance, context, details, kEnd, failure});
    }
    send(*action, {instance, context, details, kEnd, failure});
}

// Nova's order: the legacy message is a single one, between the versioned two.
void InstanceNotifications::volume_started(const compute::VolumeNews& news,
                                           const NovaObject& instance, const Json& context) const {
    send_volume(news, kStart, instance, context, std::nullopt);
}

void InstanceNotifications::volume_ended(const compute::VolumeNews& news,
                                         const NovaObject& instance, const Json& context,
                                         const std::optional<Error>& failure) const {
    const std::string action = volume_action(news);
    if (failure) {
        if (news.action != compute::VolumeNews::Action::Detach) {
            send_volume(news, kError, instance, context, failure);
        }
        if (sink_.wants(Format::Versioned)) {
            sink_.send(Format::Versioned, "ERROR", "nova-compute:" + host_, "compute.exception",
                       exception_payload(*failure, action + "_volume"), context);
        }
        return;
    }
    if (news.action != compute::VolumeNews::Action::Swap && sink_.wants(Format::Legacy)) {
        Json payload = legacy_payload(instance, image_base(context));
        payload.set("volume_id", news.volume_id);
        sink_.send(Format::Legacy, "INFO", "compute." + host_, "compute.instance.volume." + action,
                   payload, context);
    }
    send_volume(news, kEnd, instance, context, std::nullopt);
}

void InstanceNotifications::send_volume(const compute::VolumeNews& news, std::string_view phase,
                                        const NovaObject& instance, const Json& context,
                                        const std::optional<Error>& failure) const {
    if (!sink_.wants(Format::Versioned)) {
        return;
    }
    const bool swaps = news.action == compute::VolumeNews::Action::Swap;
    const std::string action = volume_action(news);
    Json extra = swaps ? Json::object({{"old_volume_id", news.volume_id},
                                       {"new_volume_id", news.new_volume_id}})
                       : Json::object({{"volume_id", news.volume_id}});
    if (failure) {
        extra.set("fault", exception_payload(*failure, action + "_volume"));
    }
    sink_.send(
        Format::Versioned, failure ? "ERROR" : "INFO", "nova-compute:" + host_,
        fmt::format("instance.volume_{}.{}", action, phase),
        versioned_payload(release_,
                          swaps ? "InstanceActionVolumeSwapPayload" : "InstanceActionVolumePayload",
                          instance, context, extra),
        context);
}

void InstanceNotifications::exists(const NovaObject& instance, const Json& context,
                                   const AuditPeriod& period) const {
    if (sink_.wants(Format::Legacy)) {
        Json payload = legacy_payload(instance, image_base(context));
        payload.set("audit_period_beginning", python_time(period.begin_ns));
        payload.set("audit_period_ending", python_time(period.end_ns));
        sink_.send(Format::Legacy, "INFO", "compute." + host_, "compute.instance.exists", payload,
                   context);
    }
    if (sink_.wants(Format::Versioned)) {
        const Json extra = Json::object({{"audit_period", audit_period_payload(period)}});
        sink_.send(Format::Versioned, "INFO", "nova-compute:" + host_, "instance.exists",
                   versioned_payload(release_, "InstanceExistsPayload", instance, context, extra),
                   context);
    }
}

void InstanceNotifications::send(const Action& action, const Message& message) const {
    const std::string priority = message.failure ? "ERROR" : "INFO";
    const bool creates = action.versioned == "create";
    if (!action.legacy.empty() && sink_.wants(Format::Legacy)) {
        Json payload = legacy_payload(message.instance, image_base(message.context));
        const bool is_start = message.phase == kStart;
        if (message.failure) {
            payload.set("message", message.failure->message);
            payload.set("code", message.failure->code == ErrorCode::NotFound ? 404 : 500);
            payload.set("exception", message.failure->message);
        } else if (action.is(kIpsAlways) || (action.is(kIpsAtEnd) && !is_start)) {
            payload.set("fixed_ips", legacy_fixed_ips(message.instance));
        }
        const Json* flavor = message.details.new_flavor.find("nova_object.data");
        if (action.payload == "InstanceActionResizePrepPayload" && !is_start && flavor != nullptr) {
            payload.set("new_instance_type", flavor->string_or("name"));
            payload.set("new_instance_type_id", flavor->integer_or("id"));
        }
        if (creates && is_start) {
            payload.set("image_name", message.details.image_name);
        } else if (creates && !message.failure) {
            payload.set("message", "Success");
        }
        sink_.send(Format::Legacy, priority, "compute." + host_,
                   fmt::format("compute.instance.{}.{}", action.legacy, message.phase), payload,
                   message.context);
    }
    if (!action.versioned.empty() && sink_.wants(Format::Versioned)) {
        Json extra = creates ? create_extra(message.instance) : Json::object();
        if (creates) {
            extra.set("block_devices", block_device_payloads(message.details.block_devices));
        }
        if (action.payload == "InstanceActionSnapshotPayload") {
            extra.set("snapshot_image_id", message.details.image_id);
        } else if (action.payload == "InstanceActionRescuePayload") {
            extra.set("rescue_image_ref",
                      message.details.image_id.empty() ? Json() : Json(message.details.image_id));
        } else if (action.payload == "InstanceActionResizePrepPayload") {
            extra.set("new_flavor", new_flavor_payload(message.instance, message.details));
        } else if (action.payload == "InstanceActionRebuildPayload") {
            extra.set("trusted_image_certificates", nullptr);
        }
        if (message.failure) {
            extra.set("fault", exception_payload(*message.failure, action.versioned));
        }
        sink_.send(
            Format::Versioned, priority, "nova-compute:" + host_,
            fmt::format("instance.{}.{}", action.versioned, message.phase),
            versioned_payload(release_, action.payload, message.instance, message.context, extra),
            message.context);
    }
}

}  // namespace kumoi::nova
