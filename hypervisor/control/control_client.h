// ControlClient: the daemon's and the tests' side of a kumoi-vmm's control socket. Blocking, with a
// deadline on everything. One thread at a time.
//
//     auto client = TRY(ControlClient::connect("/run/kumoi/vm/control.sock", 1000));
//     Json state  = TRY(client.call("state", Json::object(), 1000));
//     TRY(client.call("subscribe", Json::object(), 1000));
//     auto event  = TRY(client.wait_event(5000));     // nullopt: none came in time
//
// Events that arrive while an answer is awaited are kept for wait_event(). After an error other
// than one that the machine answered, the connection is closed and every call says so. Depends on
// base/ only.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"
#include "hypervisor/control/protocol.h"

namespace kumoi::hypervisor {

// A descriptor that goes along with a request; the machine finds it under this name.
struct NamedDescriptor {
    std::string name;
    int fd = -1;  // stays the caller's
};

class ControlClient {
public:
    static constexpr size_t kEventsMax = 1024;  // kept; the oldest go first

    // NotFound: no such socket. Unavailable: nobody listens on it.
    static Result<ControlClient> connect(const std::string& path, int64_t timeout_ms);

    Result<Json> call(std::string_view method, const Json& params, int64_t timeout_ms,
                      std::span<const NamedDescriptor> descriptors = {});
    // The next event; nullopt when none came in time; Unavailable when the machine has gone.
    Result<std::optional<ControlEvent>> wait_event(int64_t timeout_ms);
    bool connected() const { return fd_.is_open(); }
    int fd() const { return fd_.get(); }  // to watch for readability

private:
    explicit ControlClient(UniqueFd fd) : fd_(std::move(fd)) {}
    Result<void> send_all(std::string_view bytes, std::span<const NamedDescriptor> descriptors,
                          int64_t deadline_ns);
    ssize_t send_some(std::string_view bytes, std::span<const NamedDescriptor> descriptors);
    // One line from the machine as JSON; nullopt at the deadline.
    Result<std::optional<Json>> receive(int64_t deadline_ns);
    void keep_event(const Json& message);
    Error gone(std::string_view why);

    UniqueFd fd_;
    LineBuffer lines_{kControlLineMax};
    std::deque<ControlEvent> events_;
    int64_t next_id_ = 1;
};

}  // namespace kumoi::hypervisor
