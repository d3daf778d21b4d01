#include "compute/conductor/identity_passwords.h"

#include <algorithm>
#include <chrono>

#include "base/digest.h"
#include "base/log.h"

namespace kumoi::compute::identity {
namespace {

constexpr size_t kPasswordBytesMax = 1024;
constexpr int kConcurrentHashes = 2;
constexpr std::chrono::seconds kTurnWaitMax{15};
constexpr int kFreeFailures = 5;
constexpr int64_t kRefusalSecondsMax = 30;
constexpr size_t kSubjectsMax = 20'000;

std::string random_bytes(Random& random, size_t count) {
    std::string bytes(count, '\0');
    random.fill(std::as_writable_bytes(std::span(bytes)));
    return bytes;
}

Error wrong_password() {
    return Error::unauthenticated("The request you have made requires authentication.");
}

class Slot {
public:
    explicit Slot(std::counting_semaphore<>& slots) : slots_(slots) {}
    ~Slot() { slots_.release(); }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

private:
    std::counting_semaphore<>& slots_;
};

Error no_turn() {
    return Error::unavailable("Too many password checks are waiting.")
        .with_hint("Reuse tokens, or log in again in a moment.");
}

}  // namespace

PasswordChecker::PasswordChecker(const Clock& clock, Random& random, PasswordHashing hashing)
    : clock_(clock),
      random_(random),
      hashing_(std::move(hashing)),
      nobody_hash_(hashing_.hash(random_bytes(random, 16), random_bytes(random, 16))),
      slots_(kConcurrentHashes) {}

Result<std::string> PasswordChecker::hash(std::string_view password) {
    if (password.empty() || password.size() > kPasswordBytesMax) {
        return Error::invalid("A password has 1 to {} bytes, this one has {}.", kPasswordBytesMax,
                              password.size());
    }
    if (!slots_.try_acquire_for(kTurnWaitMax)) {
        return no_turn();
    }
    const Slot slot(slots_);
    return hashing_.hash(password, random_bytes(random_, 16));
}

Result<void> PasswordChecker::check(const std::string& subject, std::string_view password,
                                    const std::string& hash) {
    TRY(refuse_if_guessing(subject));
    bool matches = false;
    if (password.size() <= kPasswordBytesMax) {
        if (!slots_.try_acquire_for(kTurnWaitMax)) {
            return no_turn();
        }
        const Slot slot(slots_);
        matches = hashing_.matches(password, hash.empty() ? nobody_hash_ : hash) && !hash.empty();
    }
    if (!matches) {
        count_failure(subject);
        return wrong_password();
    }
    const std::lock_guard lock(mutex_);
    failures_.erase(subject);
    return {};
}

std::string PasswordChecker::random_secret() {
    return secret_text(random_, 32);
}

Result<void> PasswordChecker::refuse_if_guessing(const std::string& subject) {
    const std::lock_guard lock(mutex_);
    const auto found = failures_.find(subject);
    if (found == failures_.end() || found->second.refused_until_ns <= clock_.monotonic_ns()) {
        return {};
    }
    const int64_t left_ns = found->second.refused_until_ns - clock_.monotonic_ns();
    return Error::unavailable("{} failed logins in a row.", found->second.count)
        .with_hint(
            fmt::format("Try again in {} s.", (left_ns + kNanosPerSecond - 1) / kNanosPerSecond))
        .with_fault("TooManyRequests");
}

void PasswordChecker::count_failure(const std::string& subject) {
    const std::lock_guard lock(mutex_);
    if (failures_.size() >= kSubjectsMax) {
        // Forget who may try again anyway; if that frees nothing, all: memory stays bounded.
        const int64_t now = clock_.monotonic_ns();
        std::erase_if(failures_,
                      [&](const auto& item) { return item.second.refused_until_ns < now; });
        if (failures_.size() >= kSubjectsMax) {
            failures_.clear();
        }
    }
    Failures& failures = failures_[subject];
    ++failures.count;
    if (failures.count < kFreeFailures) {
        return;
    }
    const int doublings = std::min(failures.count - kFreeFailures, 5);
    const int64_t seconds = std::min(kRefusalSecondsMax, int64_t{1} << doublings);
    failures.refused_until_ns = clock_.monotonic_ns() + seconds * kNanosPerSecond;
    log_warn("identity", "repeated failed logins",
             {{"subject", subject}, {"failures", failures.count}, {"refused_s", seconds}});
}

}  // namespace kumoi::compute::identity
