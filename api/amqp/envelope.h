// The envelope of oslo.messaging: a JSON object that holds the message as JSON text,
//
//     {"oslo.version": "2.0", "oslo.message": "{\"method\": ...}"}
//
// A body without both members is the message itself. Bodies come from other processes: bounded and
// checked. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace kumoi::amqp {

constexpr size_t kMessageBytesMax = 128u << 20;  // RabbitMQ's own limit

std::string seal(const Json& message);
Result<Json> open(std::string_view body);

// kombu's `compression` header: empty, "application/x-gzip" (zlib or gzip) or "application/x-bz2".
Result<std::string> decompress(std::string_view body, std::string_view compression,
                               size_t size_max = kMessageBytesMax);
// `method` as in kombu_compression: "gzip" or "bz2". Sets `header` to what goes into the header.
Result<std::string> compress(std::string_view body, std::string_view method, std::string& header);

}  // namespace kumoi::amqp
