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
// Fine when the machine has no such card. InterfaceDetachFailed when the guest keeps it, or is
// paused and cannot let go.
Result<void> remove_guest_nic(const std::string& control_socket, const std::string& id,
                              const DetachOptions& options);

}  // namespace kumoi::compute
