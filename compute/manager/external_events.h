// ExternalEvents: what other services tell this node about a server (Neutron's
// network-vif-plugged), for the verbs that wait for it. Whoever waits says so before he makes the
// thing happen, so an event that comes at once is not missed. Any thread. Source: nova/compute
// manager.InstanceEvents.
//
//     auto expected = events.expect(uuid, {"network-vif-plugged-" + port});
//     TRY(plug());
//     TRY(expected.wait(300 * kNanosPerSecond));
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kumoi::compute {

class ExternalEvents {
    struct Waiter;

public:
    // Waits for all of a set of events. Destroyed: nobody waits any more.
    class Expected {
    public:
        Expected(Expected&&) noexcept;
        Expected& operator=(Expected&&) = delete;
        ~Expected();
        // Timeout with what is missing; Unavailable when the other side reported a failure, and
        // Cancelled after cancel().
        Result<void> wait(int64_t timeout_ns);

    private:
        friend class ExternalEvents;
        Expected(ExternalEvents& owner, std::shared_ptr<Waiter> waiter)
            : owner_(&owner), waiter_(std::move(waiter)) {}
        ExternalEvents* owner_;
        std::shared_ptr<Waiter> waiter_;
    };

    [[nodiscard]] Expected expect(const std::string& server, const std::vector<std::string>& keys);
    // `status` "completed", or "failed". False: nobody waits for it.
    bool deliver(const std::string& server, const std::string& key, std::string_view status);
    // The server is deleted: whoever waits for its events gives up.
    void cancel(const std::string& server);

private:
    std::mutex mutex_;  // guards the waiters too
    std::condition_variable changed_;
    std::multimap<std::string, std::shared_ptr<Waiter>> waiters_;  // by server
};

}  // namespace kumoi::compute
