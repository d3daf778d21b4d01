// ContentReader: puts the frames of one connection together into deliveries, returns and confirms.
// The broker is not trusted: a frame out of order is an error, a body over the limit is skipped.
// Used from one thread; separate from RabbitLink so that a fuzz target can feed it frames.
#pragma once

#include <array>
#include <cstdint>
#include <variant>

#include "api/amqp/broker_link.h"
#include "api/amqp/rabbit_values.h"

namespace kumoi::amqp {

class ContentReader {
public:
    // One frame of channel 1 to 3. Nothing (monostate) until a message is complete.
    Result<LinkEvent> take(const amqp_frame_t& frame);
    void forget(amqp_channel_t channel);  // the channel was closed

private:
    struct Partial {
        std::variant<std::monostate, Delivery, Returned> message;
        bool has_header = false;
        bool skipped = false;  // too large: counted, not kept
        uint64_t missing = 0;  // bytes of the body
        std::string body;
    };
    Result<LinkEvent> take_method(const amqp_method_t& method, Partial& partial);
    Result<LinkEvent> take_header(const amqp_frame_t& frame, Partial& partial);
    Result<LinkEvent> take_body(amqp_bytes_t bytes, Partial& partial);
    LinkEvent finish(Partial& partial);

    std::array<Partial, 4> partials_;
};

}  // namespace kumoi::amqp
