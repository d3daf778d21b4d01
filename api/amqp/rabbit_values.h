// Values between librabbitmq's structures and ours: byte strings, argument tables, message
// properties and refusals. Used by rabbit_link.cc and content_reader.cc only.
#pragma once

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#endif

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "api/amqp/broker_link.h"
#include "base/json.h"

namespace kumoi::amqp {

// Borrows; librabbitmq does not write through it.
amqp_bytes_t as_bytes(std::string_view text);
std::string to_text(amqp_bytes_t bytes);

// A field table made of a JSON object of strings, booleans and integers. Owns what it points to.
class ArgumentTable {
public:
    explicit ArgumentTable(const Json& arguments);
    ArgumentTable(const ArgumentTable&) = delete;
    ArgumentTable& operator=(const ArgumentTable&) = delete;
    amqp_table_t table() const;

private:
    std::deque<std::string> texts_;
    std::vector<amqp_table_entry_t> entries_;
};

// The properties that kombu gives every message. Borrows from the message.
class MessageProperties {
public:
    explicit MessageProperties(const OutgoingMessage& message);
    MessageProperties(const MessageProperties&) = delete;
    MessageProperties& operator=(const MessageProperties&) = delete;
    const amqp_basic_properties_t* get() const { return &properties_; }

private:
    amqp_table_entry_t header_{};
    amqp_basic_properties_t properties_{};
};

// Members of a received message's headers that matter here.
void read_headers(const amqp_basic_properties_t& properties, Delivery& delivery);

struct Refusal {
    int code = 0;  // 404, 406, ...
    std::string text;
    bool channel_only = true;  // false: the connection is closed
};
Refusal read_refusal(const amqp_rpc_reply_t& reply);
// 404 NotFound, 403 Forbidden, 405 and 406 Conflict, others Internal.
Error refusal_error(const Refusal& refusal, std::string_view doing);

}  // namespace kumoi::amqp
