// RpcClient: remote calls, as every part above api/amqp sees them. call() waits for the answer and
// wakes with it at once; cast() waits until the broker has the message. Thread safe.
//
//     const Target conductor{.topic = "conductor", .version = "3.0"};
//     Json answer = TRY(rpc.call(conductor, context, "object_action", args));
//
// `context` is a JSON object without the "_context_" prefix of the wire. A failure of the other
// side is an Error whose fault is its Python class. No answer in time: code Timeout, fault
// "MessagingTimeout". Nobody takes the message: Unavailable, fault "MessageUndeliverable".
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"

namespace kumoi::amqp {

struct Target {
    std::string exchange;  // empty: control_exchange
    std::string topic;
    std::string server;  // empty: any server of the topic
    std::string namespace_;
    std::string version;
    bool fanout = false;  // all servers of the topic; casts only
};

struct CallOptions {
    int64_t timeout_ms = 0;  // 0: rpc_response_timeout
    int64_t call_monitor_timeout_s =
        0;  // 0: none. Else the server must give signs of life, and the
            // call fails this long after the last one
};

class RpcClient {
public:
    virtual ~RpcClient() = default;
    virtual Result<Json> call(const Target& target, const Json& context, const std::string& method,
                              Json args, CallOptions options = {}) = 0;
    virtual Result<void> cast(const Target& target, const Json& context, const std::string& method,
                              Json args) = 0;
};

}  // namespace kumoi::amqp
