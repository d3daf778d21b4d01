// HttpClient: requests to the cloud's services over libcurl. Easy handles are kept and reused, one
// for each request that runs at the same time, so connections live on; a handle that spoke to the
// same host last is preferred. Thread safe. No redirects, no proxies of the environment, only http
// and https. Retries are not made here (http_retry.h).
//
//     HttpClient client({.ca_file = "/etc/ssl/cloud.pem"});
//     HttpReply reply = TRY(client.send({.url = placement + "/resource_providers"}));
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "compute/clients/http_types.h"

namespace kumoi::clients {

struct TlsOptions {
    std::string ca_file;    // empty: the system's
    std::string cert_file;  // client certificate, PEM
    std::string key_file;   // its key; empty: in cert_file
    bool insecure = false;  // no check of the server's certificate
};

struct HttpClientOptions {
    TlsOptions tls = {};
    int64_t connect_timeout_ms = 5'000;
    int64_t timeout_ms = 60'000;         // whole exchange; 0: no limit
    int64_t stall_timeout_ms = 60'000;   // less than 1 byte/s for that long; also for streams
    size_t reply_bytes_max = 64u << 20;  // of HttpReply::body
    size_t reply_header_bytes_max = 256u << 10;
    size_t idle_handles_max = 16;
    std::string user_agent = "kumoi-compute";
};

class HttpClient final : public HttpTransport {
public:
    explicit HttpClient(HttpClientOptions options = {});
    ~HttpClient() override;
    HttpClient(const HttpClient&) = delete;
    HttpClient& operator=(const HttpClient&) = delete;

    Result<HttpReply> send(const HttpRequest& request) override;
    uint64_t connections_opened() const;  // since the start; shows reuse

private:
    struct Pool;
    const HttpClientOptions options_;
    std::unique_ptr<Pool> pool_;
};

}  // namespace kumoi::clients
