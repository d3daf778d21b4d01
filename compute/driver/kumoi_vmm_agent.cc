// KumoiVmmDriver's part that talks to the agent in a guest.
#include "base/log.h"
#include "compute/driver/guest_agent_channel.h"
#include "compute/driver/kumoi_vmm_driver.h"

namespace kumoi::compute {
namespace {

Error not_enabled() {
    return Error::conflict("QEMU guest agent is not enabled")
        .with_hint("Give the image hw_qemu_guest_agent=yes and make the server again.")
        .with_fault("QemuGuestAgentNotEnabled");
}

// Nobody in the guest answers, as against one who says no.
bool is_silence(const Error& error) {
    return error.code == ErrorCode::Timeout;
}

Error quiesce_failed(const Error& why) {
    return Error::unavailable("Failed to quiesce instance: {}", why.message)
        .with_hint(why.hint)
        .with_fault("InstanceQuiesceFailed");
}

// Of a guest that could not even be asked: what already has Nova's name keeps it.
Error unasked(const Error& why) {
    return why.fault.empty() ? quiesce_failed(why) : why;
}

}  // namespace

// The guest must run now: one that stands still would only be waited for.
Result<std::string> KumoiVmmDriver::agent_socket(const Instance& instance) const {
    if (!wants_guest_agent(instance.image.properties)) {
        return not_enabled();
    }
    const InstanceFolder folder = TRY(running_folder(instance));
    const Json state = TRY(process_of(folder).call("state"));
    if (state.string_or("state") != "running") {
        return Error::timeout("The guest stands still: it is {}", state.string_or("state"));
    }
    return folder.agent_socket();
}

Result<void> KumoiVmmDriver::set_admin_password(const Instance& instance,
                                                const std::string& password) {
    const auto set = [&]() -> Result<void> {
        auto agent = TRY(GuestAgent::connect(TRY(agent_socket(instance)), options_.agent, random_));
        return agent.set_user_password(admin_user(instance.image.properties), password);
    }();
    if (set.ok() || !is_silence(set.error())) {
        return set;
    }
    return Error(set.error()).with_fault("NotImplementedError");
}

Result<void> KumoiVmmDriver::quiesce(const Instance& instance) {
    const auto socket = agent_socket(instance);
    if (!socket.ok()) {
        return unasked(socket.error());
    }
    auto frozen = FrozenGuest::freeze(*socket, options_.agent, random_);
    if (!frozen.ok()) {
        return quiesce_failed(frozen.error());
    }
    (*frozen)->keep();  // until unquiesce()
    return {};
}

Result<void> KumoiVmmDriver::unquiesce(const Instance& instance) {
    const auto socket = agent_socket(instance);
    if (!socket.ok()) {
        return unasked(socket.error());
    }
    auto agent = GuestAgent::connect(*socket, options_.agent, random_);
    const auto thawed = agent.ok() ? agent->thaw() : Result<int64_t>(agent.error());
    return thawed.ok() ? Result<void>() : quiesce_failed(thawed.error());
}

// Null: they go on, and the image of the disk is as after a power cut.
Result<std::unique_ptr<FrozenGuest>> KumoiVmmDriver::freeze_for_snapshot(const Instance& instance) {
    const Properties& image = instance.image.properties;
    if (!wants_guest_agent(image)) {
        return requires_quiesce(image) ? Result<std::unique_ptr<FrozenGuest>>(not_enabled())
                                       : std::unique_ptr<FrozenGuest>();
    }
    auto frozen = [&]() -> Result<std::unique_ptr<FrozenGuest>> {
        return FrozenGuest::freeze(TRY(agent_socket(instance)), options_.agent, random_);
    }();
    if (frozen.ok()) {
        return frozen;
    }
    if (requires_quiesce(image)) {
        return quiesce_failed(frozen.error());
    }
    log_info("driver", "the image is taken without frozen file systems",
             {{"server", instance.uuid}, {"why", frozen.error().text()}});
    return std::unique_ptr<FrozenGuest>();
}

}  // namespace kumoi::compute
