#include "api/nova/host_power.h"

#include "base/log.h"
#include "base/subprocess.h"

namespace kumoi::nova {
namespace {

Error not_offered(std::string message, std::string hint) {
    return Error{ErrorCode::Unsupported, std::move(message), std::move(hint),
                 "NotImplementedError"};
}

std::vector<std::string> words_of(const std::string& text) {
    std::vector<std::string> words;
    for (size_t begin = text.find_first_not_of(' '); begin != std::string::npos;) {
        const size_t end = text.find(' ', begin);
        words.push_back(text.substr(begin, end - begin));
        begin = text.find_first_not_of(' ', end);
    }
    return words;
}

Result<void> run_it(const std::vector<std::string>& argv) {
    TRY(run_checked(argv));
    return {};
}

}  // namespace

HostPower::HostPower(std::vector<std::string> command, Run run)
    : command_(std::move(command)), run_(run ? std::move(run) : Run(run_it)) {}

HostPower HostPower::from_config(const Config& config) {
    return HostPower(words_of(config.string("kumoi", "host_power_command")));
}

Result<std::string> HostPower::act(const std::string& action) const {
    if (action == "startup") {
        return not_offered("A host that is off cannot be asked to start",
                           "Use its management controller.");
    }
    if (action != "reboot" && action != "shutdown") {
        return Error::invalid("Host power action '{}' is none of reboot, shutdown and startup",
                              action)
            .with_fault("InvalidInput");
    }
    if (command_.empty()) {
        return not_offered(
            "This host's operator does not allow host power actions: [kumoi] host_power_command "
            "is not set",
            "Set it to systemctl to allow them.");
    }
    std::vector<std::string> argv = command_;
    argv.emplace_back(action == "reboot" ? "reboot" : "poweroff");  // systemctl's verbs
    log_warn("nova", "this host goes down by request", {{"action", action}});
    TRY_CONTEXT(run_(argv), "{} of this host by '{}'", action, command_.front());
    return action;
}

}  // namespace kumoi::nova
