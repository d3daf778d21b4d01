#include "api/amqp/content_reader.h"

#include <algorithm>

#include "api/amqp/envelope.h"

namespace kumoi::amqp {
namespace {

constexpr size_t kReserveBytesMax = 1u << 20;  // what a header alone may make us allocate

Error out_of_order(std::string_view what) {
    return Error::unavailable("the broker sent {} where none can be", what);
}

Delivery to_delivery(const amqp_basic_deliver_t& deliver) {
    Delivery delivery;
    delivery.consumer_tag = to_text(deliver.consumer_tag);
    delivery.delivery_tag = deliver.delivery_tag;
    delivery.redelivered = deliver.redelivered != 0;
    return delivery;
}

Returned to_returned(const amqp_basic_return_t& returned) {
    return {returned.reply_code,
            to_text(returned.reply_text),
            to_text(returned.exchange),
            to_text(returned.routing_key),
            {}};
}

}  // namespace

void ContentReader::forget(amqp_channel_t channel) {
    partials_.at(channel) = Partial();
}

Result<LinkEvent> ContentReader::take(const amqp_frame_t& frame) {
    if (frame.channel >= partials_.size()) {
        return out_of_order(fmt::format("a frame on channel {}", frame.channel));
    }
    Partial& partial = partials_[frame.channel];
    switch (frame.frame_type) {
        case AMQP_FRAME_METHOD: return take_method(frame.payload.method, partial);
        case AMQP_FRAME_HEADER: return take_header(frame, partial);
        case AMQP_FRAME_BODY: return take_body(frame.payload.body_fragment, partial);
        default: return LinkEvent();
    }
}

Result<LinkEvent> ContentReader::take_method(const amqp_method_t& method, Partial& partial) {
    if (!std::holds_alternative<std::monostate>(partial.message)) {
        return out_of_order("a method amid a message");
    }
    switch (method.id) {
        case AMQP_BASIC_DELIVER_METHOD:
            partial.message = to_delivery(*static_cast<amqp_basic_deliver_t*>(method.decoded));
            return LinkEvent();
        case AMQP_BASIC_RETURN_METHOD:
            partial.message = to_returned(*static_cast<amqp_basic_return_t*>(method.decoded));
            return LinkEvent();
        case AMQP_BASIC_ACK_METHOD: {
            const auto* ack = static_cast<amqp_basic_ack_t*>(method.decoded);
            return LinkEvent(Confirm{ack->delivery_tag, ack->multiple != 0, true});
        }
        case AMQP_BASIC_NACK_METHOD: {
            const auto* nack = static_cast<amqp_basic_nack_t*>(method.decoded);
            return LinkEvent(Confirm{nack->delivery_tag, nack->multiple != 0, false});
        }
        case AMQP_BASIC_CANCEL_METHOD:
            return LinkEvent(ConsumerCancelled{
                to_text(static_cast<amqp_basic_cancel_t*>(method.decoded)->consumer_tag)});
        default: return LinkEvent();  // a late answer, channel.flow: nothing to do
    }
}

Result<LinkEvent> ContentReader::take_header(const amqp_frame_t& frame, Partial& partial) {
    if (std::holds_alternative<std::monostate>(partial.message) || partial.has_header) {
        return out_of_order("a header");
    }
    partial.has_header = true;
    partial.missing = frame.payload.properties.body_size;
    partial.skipped = partial.missing > kMessageBytesMax;
    if (auto* delivery = std::get_if<Delivery>(&partial.message); delivery != nullptr) {
        delivery->oversized = partial.skipped;
        if (frame.payload.properties.class_id == AMQP_BASIC_CLASS &&
            frame.payload.properties.decoded != nullptr) {
            read_headers(*static_cast<amqp_basic_properties_t*>(frame.payload.properties.decoded),
                         *delivery);
        }
    }
    if (!partial.skipped) {
        partial.body.reserve(std::min<size_t>(partial.missing, kReserveBytesMax));
    }
    return partial.missing == 0 ? finish(partial) : LinkEvent();
}

Result<LinkEvent> ContentReader::take_body(amqp_bytes_t bytes, Partial& partial) {
    if (!partial.has_header || bytes.len > partial.missing) {
        return out_of_order("a piece of a message body");
    }
    partial.missing -= bytes.len;
    if (!partial.skipped) {
        partial.body.append(static_cast<const char*>(bytes.bytes), bytes.len);
    }
    return partial.missing == 0 ? finish(partial) : LinkEvent();
}

LinkEvent ContentReader::finish(Partial& partial) {
    LinkEvent event;
    if (auto* delivery = std::get_if<Delivery>(&partial.message); delivery != nullptr) {
        delivery->body = std::move(partial.body);
        event = std::move(*delivery);
    } else if (auto* returned = std::get_if<Returned>(&partial.message); returned != nullptr) {
        returned->body = std::move(partial.body);
        event = std::move(*returned);
    }
    partial = Partial();
    return event;
}

}  // namespace kumoi::amqp
