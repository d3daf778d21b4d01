// ProcessExtension: control methods that come from above hypervisor/ (live migration). main.cc puts
// one into VmmProcess; this folder knows no more of it. Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "base/json.h"
#include "base/result.h"
#include "hypervisor/control/protocol.h"

namespace kumoi::hypervisor {

class Vmm;

class ProcessExtension {
public:
    // What it may do with its process.
    struct Process {
        std::function<void(const ControlEvent&)> publish;
        std::function<void()> fail;        // end the process: exit code 1
        std::function<void()> decided;     // an incoming machine's guest runs here, for good
        std::function<void()> given_away;  // it runs in a newer process here: end, exit code 0
    };
    using Factory = std::function<std::unique_ptr<ProcessExtension>(Process)>;

    virtual ~ProcessExtension() = default;
    // Asked about every method that is not the process's own, once there is a machine: why it must
    // not be carried out now.
    virtual std::optional<Error> refusal(const Vmm& vmm, const std::string& method) const = 0;
    // Nothing: no method of its own.
    virtual std::optional<Result<Json>> handle(Vmm& vmm, const ControlRequest& request) = 0;
};

}  // namespace kumoi::hypervisor
