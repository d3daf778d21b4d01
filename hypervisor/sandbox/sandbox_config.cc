#include "hypervisor/sandbox/sandbox_config.h"

namespace kumoi::hypervisor {

Result<SandboxMode> sandbox_mode(std::string_view name) {
    if (name == "on") {
        return SandboxMode::On;
    }
    if (name == "log") {
        return SandboxMode::Log;
    }
    if (name == "off") {
        return SandboxMode::Off;
    }
    return Error::invalid("--sandbox: \"{}\" is not on, log or off", name);
}

Result<SandboxConfig> parse_sandbox_config(const JsonView& view) {
    constexpr int64_t kIdMax = 0xffff'fffe;  // 2^32 - 1 means "no change" to the kernel
    TRY(view.only({"uid", "gid", "require"}));
    SandboxConfig config;
    if (view.has("uid")) {
        config.uid = static_cast<uint32_t>(TRY(view.integer("uid", {1, kIdMax})));
    }
    if (view.has("gid")) {
        config.gid = static_cast<uint32_t>(TRY(view.integer("gid", {1, kIdMax})));
    }
    if (view.has("require")) {
        for (const JsonView& item : TRY(view.array("require"))) {
            const std::string name = TRY(item.as_string());
            config.require.push_back(TRY_CONTEXT(sandbox_piece(name), "{}", item.path()));
        }
    }
    return config;
}

}  // namespace kumoi::hypervisor
