// The registers a virtual processor starts with: fresh from KVM at reset, then set for the loader's
// entry point (first vCPU) or waiting for INIT and SIPI (all others).
//
// All functions act on a vCPU whose thread is parked or not started.
#pragma once

#include "hypervisor/kvm/kvm_abi.h"

#include "base/result.h"
#include "hypervisor/boot/boot_params.h"
#include "hypervisor/kvm/vcpu_fd.h"

namespace kumoi::hypervisor {

// Taken right after creation, put back at each machine reset.
struct VcpuResetState {
    kvm_sregs sregs;
    kvm_lapic_state lapic;
    kvm_vcpu_events events;
    kvm_fpu fpu;
    kvm_debugregs debug_registers;
};

Result<VcpuResetState> capture_reset_state(const VcpuFd& vcpu);
Result<void> apply_reset_state(VcpuFd& vcpu, const VcpuResetState& state, bool first);
Result<void> apply_boot_msrs(VcpuFd& vcpu);
// After apply_reset_state(): as at power-on, for firmware: 0xfff0 in the segment that ends at 4
// GiB.
Result<void> apply_reset_vector(VcpuFd& vcpu);
Result<void> apply_entry_point(VcpuFd& vcpu, const EntryPoint& entry);

}  // namespace kumoi::hypervisor
