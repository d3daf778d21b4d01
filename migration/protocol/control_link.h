// ControlLink: the control stream of a migration: messages both ways, and the certainty within
// two seconds that the other side has gone.
//
// A thread reads; it also says that we are alive whenever nothing else has been sent for a while.
// Events come on that thread. send() from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "base/result.h"
#include "migration/protocol/message.h"
#include "migration/stream/stream_socket.h"

namespace kumoi::migration {

class ControlLink {
public:
    struct Events {
        std::function<void(Message)> message;
        std::function<void(const Error&)> lost;  // once, the last event; not after stop()
    };
    struct Times {
        int64_t beat_ns = 250 * kNanosPerMilli;   // of silence, until we say that we are alive
        int64_t lost_ns = 1750 * kNanosPerMilli;  // of the other side's; noticed a beat later
    };

    ControlLink(std::unique_ptr<StreamSocket> socket, const Clock& clock, Times times,
                Events events);
    ~ControlLink();  // stops, waits
    ControlLink(const ControlLink&) = delete;
    ControlLink& operator=(const ControlLink&) = delete;

    Result<void> send(MessageType type, std::span<const std::byte> body);
    void stop();

private:
    void read_main();
    Result<void> read_message();
    Result<void> beat();

    std::unique_ptr<StreamSocket> socket_;
    const Clock& clock_;
    const Times times_;
    const Events events_;
    std::atomic<int64_t> sent_ns_;
    int64_t heard_ns_;       // of the thread
    std::mutex send_mutex_;  // one message after the other
    std::thread thread_;
};

}  // namespace kumoi::migration
