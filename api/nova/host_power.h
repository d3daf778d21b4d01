// HostPower: turning this host itself off and on again, where its operator allows that
// ([kumoi] host_power_command). Thread safe; blocks until the command has ended.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/config.h"
#include "base/result.h"

namespace kumoi::nova {

class HostPower {
public:
    using Run = std::function<Result<void>(const std::vector<std::string>& argv)>;

    // `command`: the words of the option; none: refused. `run`: as a test runs it.
    explicit HostPower(std::vector<std::string> command, Run run = {});
    static HostPower from_config(const Config& config);

    // "reboot" or "shutdown"; returns it. NotImplementedError for "startup" (nobody is there to be
    // asked), and for both where the command is not set.
    Result<std::string> act(const std::string& action) const;

private:
    std::vector<std::string> command_;
    Run run_;
};

}  // namespace kumoi::nova
