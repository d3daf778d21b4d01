// Cuts one HTTP/1.x request head from bytes and says how its body is framed. Pure: bytes in, values
// out, no I/O. Strict where leniency is how requests get smuggled past a proxy (RFC 9112 §11.2):
// one Content-Length of digits only, never together with Transfer-Encoding, no bare LF or CR, no
// folded headers, no space before a colon, exactly one Host. Everything is bounded. Both servers
// use it, and tests/fuzz/http_request_fuzz.cc feeds it anything.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/http/headers.h"
#include "api/http/reply.h"
#include "api/http/url.h"

namespace kumoi::api {

struct HeadLimits {
    size_t bytes_max = 64u << 10;
    size_t count_max = 256;
};

struct RequestHead {
    std::string method;
    std::string raw_target;
    Target target;
    int version_minor = 1;
    HeaderMap headers;
    bool chunked = false;
    uint64_t content_length = 0;  // 0 when chunked or without body
    bool keep_alive = true;
    bool expects_continue = false;
};

// Finds the end of the head. Remembers how far it looked, so a head that drips in byte by byte
// costs linear time. One object per request head.
class HeadScanner {
public:
    // Bytes of the head with its final CRLF CRLF, or 0 when more are needed. `input` starts at the
    // head and only grows between calls. A line feed without carriage return is an error.
    Result<size_t> scan(std::string_view input);
    bool at_start() const { return scanned_ == 0; }

private:
    size_t scanned_ = 0;
    size_t line_start_ = 0;
};

// `head` as found by HeadScanner. A refusal carries the status to answer with: 400, 414, 417, 431,
// 501 or 505; the connection must be closed after it, since what follows can't be trusted.
struct HeadOutcome {
    std::optional<RequestHead> head;
    HttpRefusal refusal;
};
HeadOutcome parse_head(std::string_view head, const HeadLimits& limits);

bool valid_host(std::string_view host);

}  // namespace kumoi::api
