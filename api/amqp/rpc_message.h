// The messages inside the envelope: requests, and the replies and heartbeats that answer them.
// Member order is that of oslo.messaging. Decoding checks every type: a request comes from any
// process that may log in at the broker. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/json.h"

namespace kumoi::amqp {

struct RequestMessage {
    std::string method;
    std::string namespace_;  // empty: none
    std::string version;     // empty: none sent, which means 1.0
    Json args = Json::object();
    Json context = Json::object();  // without the "_context_" prefix
    std::string unique_id;
    std::string message_id;  // empty: no reply is wanted
    std::string reply_queue;
    std::optional<int64_t> call_monitor_timeout_s;

    Json encode() const;
    static Result<RequestMessage> decode(const Json& message);
};

struct ReplyMessage {
    Json result;
    std::optional<std::string> failure;  // JSON text, see rpc_failure.h
    bool ending = true;                  // false: a sign that the call still runs
    std::string message_id;
    std::string unique_id;

    Json encode() const;
    static Result<ReplyMessage> decode(Json message);
};

}  // namespace kumoi::amqp
