// The network cards of a running kumoi-vmm: added with the TAP's queues as descriptors, for the
// sandboxed machine opens none, and taken away when the guest has let go of them. Blocking.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "compute/driver/guest_process.h"

namespace kumoi::compute {

// Nova's [libvirt] device_detach_attempts and device_detach_timeout.
struct DetachOptions {
    int64_t attempts = 8;
    int64_t timeout_ms = 20'000;  // of one attempt
    int64_t control_timeout_ms = 5'000;
};

// `nic`: a member of "nics" of guest.json. Fine when the machine has it.
Result<void> add_guest_nic(const GuestProcess& process, const Json& nic);
// What is taken away: "remove_nic" and how people and Nova call it.
struct RemovedKind {
    const char* method;
    const char* noun;
    const char* fault;
    const char* hint;
};
// Fine when the machine has no such device. The kind's fault when the guest keeps it, or is paused
// and cannot let go.
Result<void> remove_guest_device(const RemovedKind& kind, const std::string& control_socket,
                                 const std::string& id, const DetachOptions& options);
bool guest_has_device(const Json& statistics, const std::string& id);

// Fine when the machine has no such card. InterfaceDetachFailed when the guest keeps it, or is
// paused and cannot let go.
Result<void> remove_guest_nic(const std::string& control_socket, const std::string& id,
                              const DetachOptions& options);

}  // namespace kumoi::compute
