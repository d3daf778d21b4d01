// A seccomp filter as a list of rules, and its BPF program.
//
// A rule allows one system call, for any arguments or only for some. The program finds the call by
// binary search and answers `otherwise` to everything that no rule allows, to any other
// architecture (32-bit calls from a 64-bit process) and to x32 numbers. Pure; nothing is installed
// here. Linux Documentation/userspace-api/seccomp_filter.rst.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"

namespace kumoi::hypervisor {

// On the low 32 bits of an argument: the kernel reads commands, flags and pids as 32-bit numbers.
struct ArgumentCheck {
    unsigned index = 0;            // of the argument, from 0
    std::vector<uint32_t> any_of;  // allowed values; empty: see none_of_bits
    uint32_t none_of_bits = 0;     // bits that must be clear
};

struct SyscallRule {
    uint32_t number = 0;
    std::vector<ArgumentCheck> checks = {};  // all must hold
    std::optional<uint16_t> error = {};      // not allowed: this errno, and the thread goes on
};

// `otherwise`: a SECCOMP_RET_ value. Refuses two rules for one call, and too long a program.
Result<std::vector<sock_filter>> build_seccomp_filter(std::vector<SyscallRule> rules,
                                                      uint32_t otherwise);
// For the calling thread and those it starts from now on. Needs no_new_privs.
Result<void> install_seccomp_filter(const std::vector<sock_filter>& program);

}  // namespace kumoi::hypervisor
