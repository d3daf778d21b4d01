// ReplySender: takes replies to their callers' queues. A queue that is missing (its owner is
// connecting again) is tried every 250 ms for kombu_missing_consumer_retry_timeout; one that never
// came is then not waited for again for a minute. Also gives a running call's signs of life.
// Thread safe.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "api/amqp/rpc_message.h"
#include "api/amqp/transport.h"

namespace kumoi::amqp {

class ReplySender : public std::enable_shared_from_this<ReplySender> {
public:
    // Ends the signs of life when it is destroyed.
    class Heartbeat {
    public:
        explicit Heartbeat(std::shared_ptr<std::atomic<bool>> running)
            : running_(std::move(running)) {}
        ~Heartbeat() { *running_ = false; }
        Heartbeat(const Heartbeat&) = delete;
        Heartbeat& operator=(const Heartbeat&) = delete;

    private:
        std::shared_ptr<std::atomic<bool>> running_;  // shared with the timer that beats
    };

    explicit ReplySender(Transport& transport);
    // `sent` is called once, on the publishing loop, when the reply is there or given up.
    void reply(const std::string& queue, const ReplyMessage& message, std::function<void()> sent);
    std::unique_ptr<Heartbeat> beat(const std::string& queue, const std::string& message_id,
                                    int64_t monitor_timeout_s);

private:
    struct Attempt {
        std::string queue;
        std::string body;
        std::string compression;
        int64_t give_up_ns = 0;
        std::function<void()> sent;
    };
    void send(std::shared_ptr<Attempt> attempt);
    void outcome(const std::shared_ptr<Attempt>& attempt, const Result<void>& result);
    void next_beat(const std::string& queue, const std::string& message_id, int64_t interval_ns,
                   std::shared_ptr<std::atomic<bool>> running);
    bool is_obsolete(const std::string& queue);
    void mark_obsolete(const std::string& queue);

    Transport& transport_;
    Counter& retries_;
    Counter& lost_;
    std::mutex mutex_;
    std::map<std::string, int64_t> obsolete_until_ns_;
};

}  // namespace kumoi::amqp
