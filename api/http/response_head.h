// Writes the head of an answer (RFC 9112 §4): status line, the handler's headers, and those the
// server is responsible for: Date, Content-Length or Transfer-Encoding, Connection,
// X-Openstack-Request-Id. A header that would break the message (line break in a value) is left out
// and logged.
#pragma once

#include <cstdint>
#include <string>

#include "api/http/reply.h"

namespace kumoi::api {

struct ResponseContext {
    bool head_request = false;  // no body, whatever the reply has
    int version_minor = 1;      // of the request
    bool keep_alive = true;
    std::string request_id;  // empty: none known
    int64_t wall_ns = 0;
};

enum class BodyFraming { None, Counted, Chunked, UntilClose };

struct ResponseHead {
    std::string bytes;
    BodyFraming framing = BodyFraming::None;  // of what follows on the wire
    uint64_t length = 0;                      // when counted
    bool keep_alive = true;
};

ResponseHead write_response_head(const Reply& reply, const ResponseContext& context);
// "Mon, 23 Nov 2026 19:54:07 GMT" (RFC 9110 §5.6.7).
std::string http_date(int64_t wall_ns);

}  // namespace kumoi::api
