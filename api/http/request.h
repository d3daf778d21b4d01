// Request: one HTTP request as a handler sees it: complete, checked, decoded. It belongs to the
// worker thread that runs the handler. Nothing in it was rewritten behind our back: repeated
// headers and query parameters are all there, in order, and raw_target is what the client sent.
//
//     Reply show_server(Request& request) {
//         const std::string& id = request.parameter("server_id");     // from the route's pattern
//         auto limit = request.query.first("limit");                  // optional<string>, decoded
//         auto body = request.json();                                 // Result<Json>
//         const AuthContext* who = request.attachment<AuthContext>(); // put there by a middleware
//         ...
//     }
#pragma once

#include <any>
#include <cstdint>
#include <string>
#include <string_view>
#include <typeindex>
#include <utility>
#include <vector>

#include "api/http/headers.h"
#include "api/http/url.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::api {

using PathParameters = std::vector<std::pair<std::string, std::string>>;

struct Request {
    std::string method;                 // "GET", as sent; HEAD stays "HEAD" in a GET handler
    std::string raw_target;             // "/v2.1/servers/a%20b?tags=x", as sent
    std::string path;                   // raw_target without query, not decoded
    std::vector<std::string> segments;  // {"v2.1", "servers", "a b"}
    QueryMap query;
    HeaderMap headers;
    std::string body;               // empty on streaming routes: use the BodyReader
    int version_minor = 1;          // HTTP/1.0 or HTTP/1.1
    std::string peer_address;       // "127.0.0.1:51234"
    std::string local_address;      // "127.0.0.1:8774"
    std::string request_id;         // "req-<uuid>", ours, fresh for every request
    std::string global_request_id;  // client's X-OpenStack-Request-ID if well formed, else empty
    std::string route;              // pattern that matched, empty for none; a good metric label
    PathParameters parameters;      // decoded

    // The value of a "{name}" of the route's pattern. Asserts that the pattern has it.
    const std::string& parameter(std::string_view name) const;
    // Media type in lower case without parameters: "application/json"; empty when absent.
    std::string content_type() const;
    // The body as JSON; errors name the place. An empty body is an error.
    Result<Json> json() const;
    // "http://host:port" as the client reached us (Host header), for links; no trailing slash.
    std::string base_url() const;

    // One slot per type, for what middleware finds out (AuthContext, microversion ...).
    template <class T>
    T& attach(T value) {
        for (auto& [type, slot] : attachments) {
            if (type == typeid(T)) {
                slot = std::move(value);
                return *std::any_cast<T>(&slot);
            }
        }
        attachments.emplace_back(typeid(T), std::move(value));
        return *std::any_cast<T>(&attachments.back().second);
    }
    template <class T>
    const T* attachment() const {
        for (const auto& [type, slot] : attachments) {
            if (type == typeid(T)) {
                return std::any_cast<T>(&slot);
            }
        }
        return nullptr;
    }
    std::vector<std::pair<std::type_index, std::any>> attachments;
};

}  // namespace kumoi::api
