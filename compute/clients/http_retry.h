// Retries with a budget. A request is sent again only when that cannot do harm (an idempotent
// method, or a connection that never stood) and only while the budget lasts: every reply earns a
// tenth of a retry, so that a service in trouble gets at most 10 % more load from us, never a
// storm. Waits grow by two and are drawn evenly from 0 to that bound (full jitter). Thread safe.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>

#include "base/clock.h"
#include "base/random.h"
#include "compute/clients/http_types.h"

namespace kumoi::clients {

struct RetryPolicy {
    int attempts_max = 4;  // the first one counts
    int64_t first_wait_ms = 500;
    int64_t wait_max_ms = 8'000;
    int64_t retry_after_max_ms = 30'000;  // of a Retry-After header; a longer one ends the retries
};

class RetryBudget {
public:
    explicit RetryBudget(double reserve = 10.0, double earned_per_reply = 0.1)
        : reserve_(reserve), earned_(earned_per_reply), left_(reserve) {}

    bool take();  // one retry; false: spent
    void earn();  // a reply came
    double left() const;

private:
    const double reserve_;
    const double earned_;
    mutable std::mutex mutex_;
    double left_;
};

// How time passes for whoever must wait; tests record the waits instead.
using Wait = std::function<void(int64_t nanoseconds)>;
Wait system_wait();

// May this request be sent again after this outcome?
bool may_retry(const HttpRequest& request, const Result<HttpReply>& outcome);
// Bound for the wait before attempt `attempt` (2, 3, ...), drawn with jitter.
int64_t retry_wait_ns(const RetryPolicy& policy, int attempt, Random& random);

class RetryingTransport final : public HttpTransport {
public:
    // All of them must outlive this.
    RetryingTransport(HttpTransport& transport, RetryPolicy policy, Random& random, Wait wait)
        : transport_(transport), policy_(policy), random_(random), wait_(std::move(wait)) {}

    Result<HttpReply> send(const HttpRequest& request) override { return send(request, policy_); }
    Result<HttpReply> send(const HttpRequest& request, const RetryPolicy& policy);
    RetryBudget& budget() { return budget_; }

private:
    HttpTransport& transport_;
    const RetryPolicy policy_;
    Random& random_;
    const Wait wait_;
    RetryBudget budget_;
};

}  // namespace kumoi::clients
