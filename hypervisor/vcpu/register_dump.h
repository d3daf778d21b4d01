// Writes down what a virtual processor was doing: general, control and segment registers, pending
// events and the instruction bytes at RIP. For crash reports and the control method "dump".
// The vCPU's thread calls it, or anybody while that thread is parked.
#pragma once

#include "base/json.h"
#include "hypervisor/kvm/vcpu_fd.h"
#include "hypervisor/memory/guest_memory.h"

namespace kumoi::hypervisor {

// What cannot be read is left out; never fails.
Json register_dump(const VcpuFd& vcpu, const GuestMemory& memory);
std::string hex_bytes(std::span<const uint8_t> bytes);

}  // namespace kumoi::hypervisor
