// What guest.json and the command line say about the sandbox. Plain values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "hypervisor/sandbox/isolation.h"

namespace kumoi::hypervisor {

enum class SandboxMode : uint8_t {
    On,
    Log,  // a system call that is not allowed is logged by the kernel and goes through
    Off,
};
Result<SandboxMode> sandbox_mode(std::string_view name);  // "on", "log", "off"

// The member "sandbox" of guest.json.
struct SandboxConfig {
    uint32_t uid = 0;                   // 0: one of its own, made from the process id
    uint32_t gid = 0;                   // 0: as uid
    std::vector<SandboxPiece> require;  // the guest is refused where one of these is not to be had
};
Result<SandboxConfig> parse_sandbox_config(const JsonView& view);

}  // namespace kumoi::hypervisor
