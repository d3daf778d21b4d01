// TimedTransport: says in the metrics how long a service's answers took: what an operation of a
// node waits for is mostly this.
#pragma once

#include "base/clock.h"
#include "base/metrics.h"
#include "compute/clients/http_types.h"

namespace kumoi::clients {

class TimedTransport final : public HttpTransport {
public:
    // All must outlive this. `seconds` may be nullptr: nothing is measured.
    TimedTransport(HttpTransport& transport, const Clock& clock, Histogram* seconds)
        : transport_(transport), clock_(clock), seconds_(seconds) {}

    Result<HttpReply> send(const HttpRequest& request) override {
        const int64_t begin_ns = clock_.monotonic_ns();
        auto reply = transport_.send(request);
        if (seconds_ != nullptr) {
            seconds_->observe(static_cast<double>(clock_.monotonic_ns() - begin_ns) / 1e9);
        }
        return reply;
    }

private:
    HttpTransport& transport_;
    const Clock& clock_;
    Histogram* const seconds_;
};

}  // namespace kumoi::clients
