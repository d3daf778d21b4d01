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
    return Error::invalid("sandbox mode \"{}\" is not on, log or off", name);
}

Result<SandboxConfig> parse_sandbox_config(const JsonView& view) {
    constexpr int64_t kIdMax = 0xffff'fffe;  // 2^32 - 1 means "no change" to the kernel
    constexpr int64_t kOwnMin = 1000;        // below are the host's own users
    TRY(view.only({"mode", "uid", "gid", "uid_first", "uid_count", "require"}));
    SandboxConfig config;
    if (view.has("mode")) {
        config.mode = TRY_CONTEXT(sandbox_mode(TRY(view.string("mode"))), "{}", view.path());
    }
    if (view.has("uid_first")) {
        config.uid_first = static_cast<uint32_t>(TRY(view.integer("uid_first", {kOwnMin, kIdMax})));
    }
    if (view.has("uid_count")) {
        config.uid_count = static_cast<uint32_t>(
            TRY(view.integer("uid_count", {1, kIdMax - config.uid_first + 1})));
    }
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

uint32_t sandbox_uid(const SandboxConfig& config, uint32_t pid) {
    if (config.uid != 0) {
        return config.uid;
    }
    return config.uid_first + (config.uid_count != 0 ? pid % config.uid_count : pid);
}

}  // namespace kumoi::hypervisor
