#include "compute/driver/guest_interfaces.h"

#include <fcntl.h>

#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "compute/network/netlink.h"

namespace kumoi::compute {
namespace {

using hypervisor::ControlClient;
using hypervisor::NamedDescriptor;

enum class Release { Gone, Kept };

Error detach_failed(const RemovedKind& kind, const std::string& id, std::string why) {
    return Error::conflict("Failed to detach {} {}: {}", kind.noun, id, why).with_fault(kind.fault);
}

// Somebody else (this daemon before it was restarted) has asked already: how that ends.
Result<Release> wait_for_release(ControlClient& client, const std::string& id,
                                 const DetachOptions& options) {
    while (const auto event = TRY(client.wait_event(options.timeout_ms))) {
        if (event->data.string_or("device") != id) {
            continue;
        }
        if (event->name == "device_removed") {
            return Release::Gone;
        }
        if (event->name == "device_removal_failed") {
            return Release::Kept;
        }
    }
    return Release::Kept;
}

Result<Release> ask_guest(const RemovedKind& kind, ControlClient& client, const std::string& id,
                          const DetachOptions& options) {
    const auto answer =
        client.call(kind.method, Json::object({{"id", id}, {"timeout_ms", options.timeout_ms}}),
                    options.timeout_ms + options.control_timeout_ms);
    if (answer.ok() || answer.error().code == ErrorCode::NotFound) {
        return Release::Gone;
    }
    if (answer.error().code == ErrorCode::Conflict) {
        return wait_for_release(client, id, options);
    }
    return answer.error().code == ErrorCode::Timeout && client.connected()
               ? Result<Release>(Release::Kept)
               : Result<Release>(answer.error());
}

Result<void> remove_by_force(const RemovedKind& kind, ControlClient& client, const std::string& id,
                             const DetachOptions& options) {
    const auto answer = client.call(kind.method, Json::object({{"id", id}, {"force", true}}),
                                    options.control_timeout_ms);
    if (answer.ok() || answer.error().code == ErrorCode::NotFound) {
        return {};
    }
    return answer.error();
}

constexpr char kVhostNet[] = "/dev/vhost-net";

std::optional<UniqueFd> open_vhost(const Json& nic) {
    if (nic.string_or("vhost", "off") == "off") {
        return std::nullopt;
    }
    auto device = open_file(kVhostNet, O_RDWR | O_NONBLOCK);
    return device.ok() ? std::optional<UniqueFd>(std::move(device).value()) : std::nullopt;
}

constexpr RemovedKind kNic = {
    "remove_nic", "network adapter device", "InterfaceDetachFailed",
    "Take the interface down in the guest, see that its kernel has ACPI hot-plug, or stop the "
    "server, and try again."};

}  // namespace

bool guest_has_device(const Json& statistics, const std::string& id) {
    const Json* devices = statistics.find("devices");
    return devices != nullptr && devices->find(id) != nullptr;
}

Result<void> add_guest_nic(const GuestProcess& process, const Json& nic) {
    if (guest_has_device(TRY(process.call("statistics")), nic.string_or("id"))) {
        return {};
    }
    const std::string tap = nic.string_or("tap");
    const auto queues = TRY(open_tap_queues(tap, nic.integer_or("queue_pairs", 1)));
    std::vector<NamedDescriptor> descriptors;
    std::vector<UniqueFd> vhosts;
    for (const UniqueFd& queue : queues) {
        descriptors.push_back({"tap:" + tap, queue.get()});
        // Where there is none the machine decides by itself whether it can do without.
        if (auto vhost = open_vhost(nic)) {
            descriptors.push_back({kVhostNet, vhost->get()});
            vhosts.push_back(std::move(*vhost));
        }
    }
    TRY(process.call("add_nic", Json::object({{"nic", nic}}), descriptors));
    return {};
}

Result<void> remove_guest_nic(const std::string& control_socket, const std::string& id,
                              const DetachOptions& options) {
    return remove_guest_device(kNic, control_socket, id, options);
}

Result<void> remove_guest_device(const RemovedKind& kind, const std::string& control_socket,
                                 const std::string& id, const DetachOptions& options) {
    auto client = TRY(ControlClient::connect(control_socket, options.control_timeout_ms));
    TRY(client.call("subscribe", Json::object(), options.control_timeout_ms));
    for (int64_t attempt = 1; attempt <= options.attempts; ++attempt) {
        if (!guest_has_device(
                TRY(client.call("statistics", Json::object(), options.control_timeout_ms)), id)) {
            return {};
        }
        const Json state = TRY(client.call("state", Json::object(), options.control_timeout_ms));
        const std::string word = state.string_or("state");
        if (word == "paused") {
            return detach_failed(kind, id, "the guest is paused and cannot release it")
                .with_hint("Unpause the server and try again.");
        }
        if (word != "running") {
            return remove_by_force(kind, client, id, options);
        }
        if (TRY(ask_guest(kind, client, id, options)) == Release::Gone) {
            return {};
        }
        log_warn("driver", "the guest did not release a device",
                 {{"device", id}, {"attempt", attempt}, {"attempts", options.attempts}});
    }
    return detach_failed(kind, id,
                         fmt::format("the guest did not release it, asked {} times for {} s "
                                     "each",
                                     options.attempts, options.timeout_ms / 1000))
        .with_hint(kind.hint);
}

}  // namespace kumoi::compute
