// What guest.json and the command line say about the sandbox. Plain values.
#pragma once

#include <cstdint>
#include <optional>
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
    static constexpr uint32_t kUidFirst = 0x7000'0000;  // nobody gives out users up there
    std::optional<SandboxMode> mode;                    // absent: on
    uint32_t uid = 0;                   // 0: one of its own, made from the process id
    uint32_t gid = 0;                   // 0: as uid
    uint32_t uid_first = kUidFirst;     // where those begin
    uint32_t uid_count = 0;             // and how many there are; 0: as many as process ids
    std::vector<SandboxPiece> require;  // the guest is refused where one of these is not to be had
};
Result<SandboxConfig> parse_sandbox_config(const JsonView& view);
// The user of a machine with this process id, as the host sees it.
uint32_t sandbox_uid(const SandboxConfig& config, uint32_t pid);

}  // namespace kumoi::hypervisor
