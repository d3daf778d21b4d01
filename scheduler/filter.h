// Filter: one rule that a host must satisfy to get a server, and Verdict, its answer with the
// numbers that led to it. Filters are pure: the same host and request always give the same verdict.
#pragma once

#include <fmt/core.h>

#include <string>
#include <string_view>
#include <utility>

#include "scheduler/host_state.h"
#include "scheduler/request_spec.h"

namespace kumoi::scheduler {

class [[nodiscard]] Verdict {
public:
    static Verdict pass() { return Verdict(true, {}); }
    template <class... Args>
    static Verdict refuse(fmt::format_string<Args...> format, Args&&... args) {
        return Verdict(false, fmt::format(format, std::forward<Args>(args)...));
    }
    bool passed() const { return passed_; }
    const std::string& reason() const { return reason_; }  // empty when passed

private:
    Verdict(bool passed, std::string reason) : passed_(passed), reason_(std::move(reason)) {}
    bool passed_;
    std::string reason_;
};

class Filter {
public:
    virtual ~Filter() = default;
    virtual std::string_view name() const = 0;  // Nova's: "RamFilter"
    virtual Verdict host_passes(const HostState& host, const RequestSpec& spec) const = 0;
};

}  // namespace kumoi::scheduler
