// HttpClient: requests to other services (libcurl easy handles, kept and reused, so connections
// live on). Thread safe: each concurrent send() takes its own handle from the pool. No exceptions,
// no redirects unless asked for, no environment proxies, only http and https.
//
//     HttpClient client({.timeout_ms = 30'000});
//     HttpRequest request{.method = "POST", .url = keystone + "/v3/auth/tokens", .body =
//     json.dump()}; request.headers.add("Content-Type", "application/json"); HttpResponse response
//     = TRY(client.send(request));     // an error only if no HTTP answer came if (response.status
//     == 201) { token = response.headers.first("X-Subject-Token"); }
//
// Errors: Unavailable (cannot connect, connection lost), Timeout, TooLarge (answer over the limit),
// InvalidArgument (bad URL), Cancelled (a source or sink returned an error; that error is
// returned).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "api/http/body.h"
#include "api/http/headers.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::api {

struct HttpRequest {
    std::string method = "GET";
    std::string url;
    HeaderMap headers;
    std::string body;
    // Streaming upload: instead of body. Without length it is sent chunked.
    BodySource source;
    std::optional<uint64_t> source_length;
    // Streaming download: receives the body of 2xx answers instead of HttpResponse::body.
    std::function<Result<void>(std::span<const std::byte> bytes)> sink;
    std::optional<int64_t> timeout_ms;  // whole exchange; none: the client's default, 0: no limit
};

struct HttpResponse {
    int status = 0;
    HeaderMap headers;
    std::string body;

    bool ok() const { return status >= 200 && status < 300; }
    Result<Json> json() const { return Json::parse(body); }
};

struct HttpClientOptions {
    int64_t connect_timeout_ms = 5'000;
    int64_t timeout_ms = 60'000;            // whole exchange; 0: no limit
    int64_t stall_timeout_ms = 60'000;      // less than 1 byte/s for that long; also for streams
    size_t response_bytes_max = 64u << 20;  // of HttpResponse::body
    size_t idle_handles_max = 8;
    std::string user_agent = "kumoi";
    std::string ca_file;  // empty: the system's
};

class HttpClient {
public:
    explicit HttpClient(HttpClientOptions options = {});
    ~HttpClient();
    HttpClient(const HttpClient&) = delete;
    HttpClient& operator=(const HttpClient&) = delete;

    Result<HttpResponse> send(const HttpRequest& request);

private:
    struct Pool;
    const HttpClientOptions options_;
    std::unique_ptr<Pool> pool_;
};

}  // namespace kumoi::api
