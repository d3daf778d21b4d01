// AmqpRpcClient: RpcClient over a broker. All calls share one reply queue, found by `_msg_id`. The
// queue is declared again whenever its consumer is lost, and a watchdog sends a message through the
// broker to itself from time to time: a reply queue that went deaf (it expires after 30 minutes
// without a consumer) is noticed within a minute and mended.
//
// A request that no queue takes (the conductor is starting, the broker has just come back) is sent
// again until the call's time is over; a cast for a few seconds. Thread safe; every caller waits on
// its own condition variable.
#pragma once

#include <memory>
#include <string>

#include "api/amqp/rpc_client.h"
#include "api/amqp/transport.h"

namespace kumoi::amqp {

class AmqpRpcClient final : public RpcClient {
public:
    explicit AmqpRpcClient(Transport& transport);  // must outlive this
    ~AmqpRpcClient() override;                     // fails the calls that wait

    Result<Json> call(const Target& target, const Json& context, const std::string& method,
                      Json args, CallOptions options = {}) override;
    Result<void> cast(const Target& target, const Json& context, const std::string& method,
                      Json args) override;

    bool is_listening() const;  // whether an answer could reach us now: for readiness checks
    std::string reply_queue() const;
    void check_reply_queue();  // the watchdog's check, now

    class State;

private:
    // Shared with callbacks on the connections' threads, which may come after this is gone.
    std::shared_ptr<State> state_;
};

}  // namespace kumoi::amqp
