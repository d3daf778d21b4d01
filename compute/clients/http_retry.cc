#include "compute/clients/http_retry.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <thread>

#include "base/log.h"

namespace kumoi::clients {
namespace {

// Overloaded, behind a proxy without a backend, or too slow for one.
bool is_transient_status(int status) {
    return status == 429 || status == 502 || status == 503 || status == 504;
}

bool is_idempotent(const HttpRequest& request) {
    const std::string& method = request.method;
    return request.repeatable || method == "GET" || method == "HEAD" || method == "PUT" ||
           method == "DELETE";
}

std::optional<int64_t> retry_after_ms(const Result<HttpReply>& outcome) {
    if (!outcome.ok()) {
        return std::nullopt;
    }
    const auto text = outcome.value().headers.first("Retry-After");
    int64_t seconds = 0;
    if (!text ||
        std::from_chars(text->data(), text->data() + text->size(), seconds).ec != std::errc() ||
        seconds < 0 || seconds > 86'400) {
        return std::nullopt;
    }
    return seconds * 1000;
}

void log_retry(const HttpRequest& request, const Result<HttpReply>& outcome, int attempt,
               int64_t wait_ns) {
    log_debug(
        "clients", "sending a request again",
        {{"method", request.method},
         {"url", request.url},
         {"attempt", attempt},
         {"wait_ms", wait_ns / kNanosPerMilli},
         {"why", outcome.ok() ? std::to_string(outcome.value().status) : outcome.error().message}});
}

}  // namespace

bool RetryBudget::take() {
    const std::lock_guard lock(mutex_);
    if (left_ < 1.0) {
        return false;
    }
    left_ -= 1.0;
    return true;
}

void RetryBudget::earn() {
    const std::lock_guard lock(mutex_);
    left_ = std::min(reserve_, left_ + earned_);
}

double RetryBudget::left() const {
    const std::lock_guard lock(mutex_);
    return left_;
}

Wait system_wait() {
    return [](int64_t nanoseconds) {
        std::this_thread::sleep_for(std::chrono::nanoseconds(nanoseconds));
    };
}

bool may_retry(const HttpRequest& request, const Result<HttpReply>& outcome) {
    if (!outcome.ok()) {
        const Error& error = outcome.error();
        if (error.fault == kConnectFailure) {
            return true;
        }
        // What a sink has taken cannot be taken back: its owner resumes by ranges.
        return (error.code == ErrorCode::Unavailable || error.code == ErrorCode::Timeout) &&
               error.fault.empty() && is_idempotent(request) && request.sink == nullptr &&
               request.source == nullptr;
    }
    const int status = outcome.value().status;
    return is_transient_status(status) && (is_idempotent(request) || status == 429) &&
           request.source == nullptr;
}

int64_t retry_wait_ns(const RetryPolicy& policy, int attempt, Random& random) {
    int64_t bound_ms = policy.first_wait_ms;
    for (int i = 2; i < attempt && bound_ms < policy.wait_max_ms; ++i) {
        bound_ms *= 2;
    }
    bound_ms = std::clamp<int64_t>(bound_ms, 1, policy.wait_max_ms);
    return static_cast<int64_t>(random.below(static_cast<uint64_t>(bound_ms * kNanosPerMilli)));
}

Result<HttpReply> RetryingTransport::send(const HttpRequest& request, const RetryPolicy& policy) {
    for (int attempt = 1;; ++attempt) {
        Result<HttpReply> outcome = transport_.send(request);
        if (outcome.ok() && !is_transient_status(outcome.value().status)) {
            budget_.earn();
            return outcome;
        }
        if (attempt >= policy.attempts_max || !may_retry(request, outcome)) {
            return outcome;
        }
        int64_t wait_ns = retry_wait_ns(policy, attempt + 1, random_);
        if (const auto asked_ms = retry_after_ms(outcome)) {
            if (*asked_ms > policy.retry_after_max_ms) {
                return outcome;
            }
            wait_ns = std::max(wait_ns, *asked_ms * kNanosPerMilli);
        }
        if (!budget_.take()) {
            log_debug("clients", "no retry: too many of the last requests failed",
                      {{"url", request.url}});
            return outcome;
        }
        log_retry(request, outcome, attempt + 1, wait_ns);
        wait_(wait_ns);
    }
}

}  // namespace kumoi::clients
