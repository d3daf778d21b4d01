// Cloud: the REST APIs as a logged-in client sees them. Logs in once, when first needed, finds the
// endpoints in the catalog, and turns fault bodies of every API into Errors (message, hint with the
// request id). Blocking; one thread.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "api/cli/credentials.h"
#include "api/http/http_client.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

using Transport = std::function<Result<api::HttpResponse>(const api::HttpRequest& request)>;

// What the Compute API is asked for: flavors embedded in servers, uuids of hypervisors.
constexpr const char* kComputeVersion = "compute 2.72";

class Cloud {
public:
    Cloud(Credentials credentials, Transport transport)
        : credentials_(std::move(credentials)), transport_(std::move(transport)) {}

    // `service`: compute, image, network, identity. `path`: below the endpoint, "/servers".
    Result<Json> get(std::string_view service, const std::string& path);
    Result<Json> post(std::string_view service, const std::string& path, const Json& body);
    Result<Json> put(std::string_view service, const std::string& path, const Json& body);
    // A JSON patch (RFC 6902), as the Image API takes it.
    Result<Json> patch(std::string_view service, const std::string& path, const Json& changes);
    Result<void> remove(std::string_view service, const std::string& path);
    // The body of a 2xx answer goes to `sink`, piece by piece; no limit of time.
    Result<void> download(std::string_view service, const std::string& path,
                          std::function<Result<void>(std::span<const std::byte>)> sink);
    // PUT of `length` bytes from `source`.
    Result<void> upload(std::string_view service, const std::string& path, api::BodySource source,
                        uint64_t length);
    // Every page of a collection under `key`.
    Result<Json::Array> list(std::string_view service, const std::string& path,
                             const std::string& key);

private:
    Result<void> log_in();
    Result<std::string> endpoint(std::string_view service);
    Result<Json> send(std::string_view method, std::string_view service, const std::string& url,
                      const Json* body);

    const Credentials credentials_;
    const Transport transport_;
    std::string token_;
    Json catalog_;
};

// The Error that a failed answer stands for. Pure.
Error error_of(const api::HttpResponse& response);

}  // namespace kumoi::cli
