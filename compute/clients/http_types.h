// What one HTTP exchange with another service is made of: headers, request, reply, and the
// transport they travel through. HttpClient (http_client.h) is the transport over libcurl; a test
// may bring its own. Plain values, no threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::clients {

// Header fields in order; names compare without case.
class HttpHeaders {
public:
    HttpHeaders() = default;
    HttpHeaders(std::initializer_list<std::pair<std::string, std::string>> fields)
        : fields_(fields) {}

    void add(std::string name, std::string value) {
        fields_.emplace_back(std::move(name), std::move(value));
    }
    void set(std::string_view name, std::string value);  // replaces all of that name
    std::optional<std::string> first(std::string_view name) const;
    bool has(std::string_view name) const { return first(name).has_value(); }
    const std::vector<std::pair<std::string, std::string>>& fields() const { return fields_; }

private:
    std::vector<std::pair<std::string, std::string>> fields_;
};

// Fills the buffer from the bytes at `offset`; 0: the end. Asked again from the start on a retry.
using HttpSource = std::function<Result<size_t>(std::span<std::byte> buffer, uint64_t offset)>;
using HttpSink = std::function<Result<void>(std::span<const std::byte> bytes)>;
class HttpHeaders;
// Told before the first byte reaches a sink.
using HttpHead = std::function<Result<void>(int status, const HttpHeaders& headers)>;

struct HttpRequest {
    std::string method = "GET";
    std::string url;
    HttpHeaders headers;
    std::string body;
    HttpSource source;                      // streaming upload instead of body
    std::optional<uint64_t> source_length;  // none: chunked
    HttpSink sink;                      // gets the body of a 2xx reply instead of HttpReply::body
    bool repeatable = false;            // a POST that may be sent twice (one for a token)
    HttpHead head;                      // optional; with a sink
    std::optional<int64_t> timeout_ms;  // whole exchange; none: the client's; 0: no limit
};

struct HttpReply {
    int status = 0;
    HttpHeaders headers;
    std::string body;

    bool ok() const { return status >= 200 && status < 300; }
    Result<Json> json() const { return Json::parse(body); }
};

// Error.fault of a request that certainly never reached the service: it may be sent again whatever
// its method is.
inline constexpr const char* kConnectFailure = "ConnectFailure";

class HttpTransport {
public:
    virtual ~HttpTransport() = default;
    // An error only when no complete HTTP reply came: Unavailable (no connection, connection lost),
    // Timeout, TooLarge, InvalidArgument (bad URL or header); an error of source or sink is
    // returned as it is. Any thread; blocks.
    virtual Result<HttpReply> send(const HttpRequest& request) = 0;
};

std::string url_escape(std::string_view text);  // everything but unreserved characters (RFC 3986)

// "name=value&name=value", escaped, in order; a repeated name makes a list as Neutron reads it.
class QueryString {
public:
    QueryString& add(std::string_view name, std::string_view value);
    // "?..." or nothing
    std::string text() const { return text_; }

private:
    std::string text_;
};

}  // namespace kumoi::clients
