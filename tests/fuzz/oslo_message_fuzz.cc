// Whatever a process with access to the broker may send: envelopes, compressed bodies, requests,
// replies and failures. First byte: which. What decodes must encode and decode to the same again.
#include <cstdlib>

#include "api/amqp/envelope.h"
#include "api/amqp/rpc_failure.h"
#include "api/amqp/rpc_message.h"
#include "base/python_json.h"

namespace {

using namespace kumoi;        // NOLINT: one program
using namespace kumoi::amqp;  // NOLINT

void require(bool condition) {
    if (!condition) {
        std::abort();
    }
}

void try_request(const Json& message) {
    const auto request = RequestMessage::decode(message);
    if (request.ok()) {
        const auto again = RequestMessage::decode(request->encode());
        require(again.ok() && again->method == request->method && again->args == request->args);
    }
}

void try_body(std::string_view body) {
    const auto message = open(body);
    if (!message.ok()) {
        return;
    }
    const auto again = open(seal(*message));
    require(again.ok());
    try_request(*message);
    const auto reply = ReplyMessage::decode(*message);
    if (reply.ok() && reply->failure) {
        const RpcFailure failure = RpcFailure::decode(*reply->failure);
        const Error error = error_from(failure);
        require(!failure_from(error).class_name.empty());
        require(RpcFailure::decode(failure.encode()).class_name == failure.class_name);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) {
        return 0;
    }
    const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
    switch (data[0]) {
        case 'g':
        case 'b': {
            const auto body = decompress(
                text, data[0] == 'g' ? "application/x-gzip" : "application/x-bz2", 1u << 20);
            require(!body.ok() || body->size() <= 1u << 20);
            break;
        }
        case 'f': {
            const RpcFailure failure = RpcFailure::decode(text);
            require(!failure.class_name.empty());
            [[maybe_unused]] const Error error = error_from(failure);
            break;
        }
        case 's': {
            std::string quoted;
            python_dump_string(quoted, text);
            require(Json::parse(quoted).ok());
            break;
        }
        default: try_body(text);
    }
    return 0;
}
