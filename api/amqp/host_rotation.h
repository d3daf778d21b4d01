// HostRotation: which host is tried next, and how long to wait before. After a loss the first try
// comes after kombu_reconnect_delay; a round over all hosts has no pauses; between rounds the pause
// grows from rabbit_retry_interval by rabbit_retry_backoff up to rabbit_interval_max. While every
// port is closed the pause stays short: asking a closed port costs nobody anything, and RPC is back
// soon after the broker. Pure but for the injected randomness. Loop thread.
#pragma once

#include <cstdint>

#include "api/amqp/amqp_options.h"
#include "base/random.h"

namespace kumoi::amqp {

class HostRotation {
public:
    HostRotation(const AmqpOptions& options, size_t host_count, Random& random);

    size_t host() const { return host_; }  // index into TransportUrl::hosts
    void connected();
    int64_t delay_ms_after_loss();
    // The attempt at host() failed; `reached`: something answered there (it refused or broke off
    // the login). Moves to the next host.
    int64_t delay_ms_after_failure(bool reached);

private:
    int64_t jitter_ms(int64_t below_ms);
    void next_host();

    const AmqpOptions& options_;
    const size_t host_count_;
    Random& random_;
    size_t host_ = 0;
    size_t tried_ = 0;      // hosts in this round
    int64_t rounds_ = 0;    // that failed since the last connection
    bool reached_ = false;  // by any attempt of this round
};

}  // namespace kumoi::amqp
