// HttpServer: a listener in front of a Router. Two implementations pass the same conformance tests:
// make_pistache_server() for the control APIs and make_beast_server() for streams of many
// gigabytes.
//
//     ServerOptions options{.name = "compute", .address = "127.0.0.1", .port = 8774};
//     auto server = TRY(make_pistache_server(options, std::move(router), {clock, random,
//     metrics})); TRY(server->start());                     // bound and accepting when it returns
//     ... server->port() ...                    // the chosen one when options.port was 0
//     server->drain(10'000);                    // stop accepting, finish what runs, close idle
//     ones server->stop();                           // cuts what is left; also done by the
//     destructor
//
// Handlers run on the server's own bounded WorkerPool, never on its I/O threads; when the queue is
// full the answer is 503 with Retry-After. Requests of one connection run one after the other, in
// order. start(), drain(), stop(): from one thread that is none of the server's. Times in
// milliseconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "api/http/router.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/random.h"
#include "base/result.h"

namespace kumoi::api {

struct ServerOptions {
    std::string name = "http";          // "compute", "identity" ...: label of logs and metrics
    std::string address = "127.0.0.1";  // IPv4 or IPv6 literal
    uint16_t port = 0;                  // 0: any free one
    size_t io_threads = 1;
    size_t worker_threads = 8;
    size_t queue_length_max = 512;        // requests waiting for a worker
    size_t stream_threads = 8;            // Beast: concurrent streaming requests
    size_t connections_max = 2048;        // more are accepted and closed with 503
    size_t header_bytes_max = 64u << 10;  // request line and headers; then 431
    size_t header_count_max = 256;
    size_t body_bytes_max = 2u << 20;                    // then 413
    uint64_t stream_body_bytes_max = uint64_t{1} << 44;  // of streaming routes
    int64_t header_timeout_ms = 10'000;                  // first byte to end of head; then 408
    int64_t body_timeout_ms = 30'000;                    // end of head to end of body; then 408
    int64_t idle_timeout_ms = 75'000;                    // between requests; then a silent close
    int64_t write_timeout_ms = 60'000;  // without any progress while we send; then a cut
};

struct ServerDependencies {
    const Clock& clock;  // Date header, durations
    Random& random;      // request ids
    Metrics& metrics;    // kumoi_http_*
};

class HttpServer {
public:
    virtual ~HttpServer() = default;
    virtual Result<void> start() = 0;
    virtual uint16_t port() const = 0;
    // Stops accepting, lets running requests finish and their answers go out, closes idle
    // connections. Timeout when some are still open at the deadline. After it only stop() makes
    // sense.
    virtual Result<void> drain(int64_t timeout_ms) = 0;
    virtual void stop() = 0;  // idempotent
};

// Pistache's listener, reactor and transport with our own parser (DEPS.md says why). Refuses a
// router with streaming routes.
Result<std::unique_ptr<HttpServer>> make_pistache_server(ServerOptions options, Router router,
                                                         ServerDependencies dependencies);
// Boost.Beast/Asio. Ordinary routes behave exactly as above; streaming ones run on their own
// threads.
Result<std::unique_ptr<HttpServer>> make_beast_server(ServerOptions options, Router router,
                                                      ServerDependencies dependencies);

}  // namespace kumoi::api
