#include "api/amqp/host_rotation.h"

#include <algorithm>

namespace kumoi::amqp {
namespace {

constexpr int64_t kClosedPortPauseMsMax = 1500;
constexpr int64_t kJitterMsMax = 500;  // so that a thousand nodes do not log in at one instant

}  // namespace

HostRotation::HostRotation(const AmqpOptions& options, size_t host_count, Random& random)
    : options_(options), host_count_(host_count), random_(random) {
    host_ = random_.below(host_count_);  // spreads the nodes of a cloud over its brokers
}

void HostRotation::connected() {
    tried_ = 0;
    rounds_ = 0;
    reached_ = false;
}

int64_t HostRotation::jitter_ms(int64_t below_ms) {
    return below_ms <= 0 ? 0 : static_cast<int64_t>(random_.below(static_cast<uint64_t>(below_ms)));
}

void HostRotation::next_host() {
    if (options_.kombu_failover_strategy == "shuffle") {
        host_ = random_.below(host_count_);
    } else {
        host_ = (host_ + 1) % host_count_;
    }
}

int64_t HostRotation::delay_ms_after_loss() {
    const auto delay = static_cast<int64_t>(options_.kombu_reconnect_delay_s * 1000);
    const auto splay = static_cast<int64_t>(options_.kombu_reconnect_splay_s * 1000);
    return delay + jitter_ms(splay);
}

int64_t HostRotation::delay_ms_after_failure(bool reached) {
    reached_ = reached_ || reached;
    next_host();
    if (++tried_ < host_count_) {
        return 0;
    }
    const int64_t pause_s =
        std::min(options_.rabbit_interval_max_s,
                 options_.rabbit_retry_interval_s + rounds_ * options_.rabbit_retry_backoff_s);
    const int64_t pause_ms =
        reached_ ? pause_s * 1000 : std::min(pause_s * 1000, kClosedPortPauseMsMax);
    tried_ = 0;
    reached_ = false;
    ++rounds_;
    return pause_ms + jitter_ms(std::min(pause_ms / 2, kJitterMsMax));
}

}  // namespace kumoi::amqp
