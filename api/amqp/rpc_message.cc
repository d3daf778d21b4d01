#include "api/amqp/rpc_message.h"

#include <charconv>

namespace kumoi::amqp {
namespace {

constexpr std::string_view kContextPrefix = "_context_";
constexpr size_t kNameBytesMax = 255;  // of methods, ids and queues: what AMQP's short strings hold
constexpr int64_t kMonitorTimeoutMax = 86400;

Result<std::string> short_text(const Json& message, std::string_view key) {
    const Json* value = message.find(key);
    if (value == nullptr || value->is_null()) {
        return std::string();
    }
    if (!value->is_string() || value->as_string().size() > kNameBytesMax) {
        return Error::invalid("message: {} is not a string of at most {} bytes", key,
                              kNameBytesMax);
    }
    return value->as_string();
}

// oslo.messaging takes an integer or the text of one.
std::optional<int64_t> monitor_timeout(const Json& message) {
    const Json* value = message.find("_timeout");
    if (value == nullptr) {
        return std::nullopt;
    }
    std::optional<int64_t> seconds = value->to_int64();
    if (value->is_number() && !value->is_integer()) {
        const double number = value->as_double();
        seconds = number >= 0 && number <= kMonitorTimeoutMax
                      ? std::optional(static_cast<int64_t>(number))
                      : std::nullopt;
    }
    if (value->is_string()) {
        int64_t parsed = 0;
        const std::string& text = value->as_string();
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
        seconds = error == std::errc() ? std::optional(parsed) : std::nullopt;
    }
    return seconds && *seconds > 0 && *seconds <= kMonitorTimeoutMax ? seconds : std::nullopt;
}

}  // namespace

Json RequestMessage::encode() const {
    Json message = Json::object({{"method", method}, {"args", args}});
    if (!namespace_.empty()) {
        message.set("namespace", namespace_);
    }
    if (!version.empty()) {
        message.set("version", version);
    }
    auto& members = message.as_object();
    if (!message_id.empty()) {
        members.emplace_back("_msg_id", message_id);
        members.emplace_back("_reply_q", reply_queue);
        members.emplace_back("_timeout", Json(call_monitor_timeout_s));
    }
    members.emplace_back("_unique_id", unique_id);
    if (context.is_object()) {
        for (const auto& [key, value] : context.as_object()) {
            members.emplace_back(std::string(kContextPrefix) + key, value);
        }
    }
    return message;
}

Result<RequestMessage> RequestMessage::decode(const Json& message) {
    RequestMessage request;
    request.method = TRY(short_text(message, "method"));
    if (request.method.empty()) {
        return Error::invalid("message: it names no method");
    }
    request.namespace_ = TRY(short_text(message, "namespace"));
    request.version = TRY(short_text(message, "version"));
    request.unique_id = TRY(short_text(message, "_unique_id"));
    request.message_id = TRY(short_text(message, "_msg_id"));
    request.reply_queue = TRY(short_text(message, "_reply_q"));
    request.call_monitor_timeout_s = monitor_timeout(message);
    if (const Json* args = message.find("args"); args != nullptr && !args->is_null()) {
        if (!args->is_object()) {
            return Error::invalid("message: args of {} is a JSON {} instead of an object",
                                  request.method, args->type_name());
        }
        request.args = *args;
    }
    auto& context = request.context.as_object();
    for (const auto& [key, value] : message.as_object()) {
        if (key.starts_with(kContextPrefix)) {
            context.emplace_back(key.substr(kContextPrefix.size()), value);
        }
    }
    return request;
}

Json ReplyMessage::encode() const {
    return Json::object({{"result", result},
                         {"failure", Json(failure)},
                         {"ending", ending},
                         {"_msg_id", message_id},
                         {"_unique_id", unique_id}});
}

Result<ReplyMessage> ReplyMessage::decode(Json message) {
    ReplyMessage reply;
    reply.message_id = TRY(short_text(message, "_msg_id"));
    reply.unique_id = TRY(short_text(message, "_unique_id"));
    reply.ending = message.bool_or("ending", false);
    if (const Json* failure = message.find("failure"); failure != nullptr && !failure->is_null()) {
        // JSON text; a peer that sends the object itself is understood too.
        reply.failure = failure->is_string() ? failure->as_string() : failure->dump();
    }
    if (Json* result = message.find("result"); result != nullptr) {
        reply.result = std::move(*result);
    }
    return reply;
}

}  // namespace kumoi::amqp
