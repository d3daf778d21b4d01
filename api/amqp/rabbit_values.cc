#include "api/amqp/rabbit_values.h"

namespace kumoi::amqp {
namespace {

constexpr uint8_t kPersistent = 2;
constexpr std::string_view kCompressionHeader = "compression";
constexpr std::string_view kStreamOffsetHeader = "x-stream-offset";

}  // namespace

amqp_bytes_t as_bytes(std::string_view text) {
    return {text.size(), const_cast<char*>(text.data())};
}

std::string to_text(amqp_bytes_t bytes) {
    return bytes.len == 0 ? std::string()
                          : std::string(static_cast<const char*>(bytes.bytes), bytes.len);
}

ArgumentTable::ArgumentTable(const Json& arguments) {
    for (const auto& [key, value] : arguments.as_object()) {
        amqp_table_entry_t entry{};
        entry.key = as_bytes(texts_.emplace_back(key));
        if (value.is_bool()) {
            entry.value.kind = AMQP_FIELD_KIND_BOOLEAN;
            entry.value.value.boolean = value.as_bool() ? 1 : 0;
        } else if (value.is_integer()) {
            // As py-amqp: 32 bits where they suffice. Arguments of a queue that both sides declare
            // compare by value, not by width.
            const int64_t number = value.to_int64().value_or(INT64_MAX);
            const bool narrow = number >= INT32_MIN && number <= INT32_MAX;
            entry.value.kind = narrow ? AMQP_FIELD_KIND_I32 : AMQP_FIELD_KIND_I64;
            if (narrow) {
                entry.value.value.i32 = static_cast<int32_t>(number);
            } else {
                entry.value.value.i64 = number;
            }
        } else {
            entry.value.kind = AMQP_FIELD_KIND_UTF8;
            entry.value.value.bytes =
                as_bytes(texts_.emplace_back(value.is_string() ? value.as_string() : value.dump()));
        }
        entries_.push_back(entry);
    }
}

amqp_table_t ArgumentTable::table() const {
    return {static_cast<int>(entries_.size()), const_cast<amqp_table_entry_t*>(entries_.data())};
}

MessageProperties::MessageProperties(const OutgoingMessage& message) {
    properties_._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG |
                         AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                         AMQP_BASIC_PRIORITY_FLAG;
    properties_.content_type = as_bytes("application/json");
    properties_.content_encoding = as_bytes("utf-8");
    properties_.delivery_mode = kPersistent;
    properties_.priority = 0;
    if (!message.compression.empty()) {
        header_.key = as_bytes(kCompressionHeader);
        header_.value.kind = AMQP_FIELD_KIND_UTF8;
        header_.value.value.bytes = as_bytes(message.compression);
        properties_.headers = {1, &header_};
    }
    if (!message.expiration.empty()) {
        properties_._flags |= AMQP_BASIC_EXPIRATION_FLAG;
        properties_.expiration = as_bytes(message.expiration);
    }
}

void read_headers(const amqp_basic_properties_t& properties, Delivery& delivery) {
    if ((properties._flags & AMQP_BASIC_HEADERS_FLAG) == 0) {
        return;
    }
    for (int index = 0; index < properties.headers.num_entries; ++index) {
        const amqp_table_entry_t& entry = properties.headers.entries[index];
        const std::string key = to_text(entry.key);
        if (key == kCompressionHeader && entry.value.kind == AMQP_FIELD_KIND_UTF8) {
            delivery.compression = to_text(entry.value.value.bytes);
        }
        if (key == kStreamOffsetHeader && entry.value.kind == AMQP_FIELD_KIND_I64) {
            delivery.stream_offset = entry.value.value.i64;
        }
    }
}

Refusal read_refusal(const amqp_rpc_reply_t& reply) {
    if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const auto* close = static_cast<const amqp_channel_close_t*>(reply.reply.decoded);
        return {close->reply_code, to_text(close->reply_text), true};
    }
    if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
        const auto* close = static_cast<const amqp_connection_close_t*>(reply.reply.decoded);
        return {close->reply_code, to_text(close->reply_text), false};
    }
    return {0, fmt::format("unexpected method {:#x}", reply.reply.id), false};
}

Error refusal_error(const Refusal& refusal, std::string_view doing) {
    ErrorCode code = ErrorCode::Internal;
    switch (refusal.code) {
        case AMQP_NOT_FOUND: code = ErrorCode::NotFound; break;
        case AMQP_ACCESS_REFUSED: code = ErrorCode::Forbidden; break;
        case AMQP_RESOURCE_LOCKED:
        case AMQP_PRECONDITION_FAILED: code = ErrorCode::Conflict; break;
        default: break;
    }
    return Error::make(code, "{}: {} {}", doing, refusal.code, refusal.text);
}

}  // namespace kumoi::amqp
