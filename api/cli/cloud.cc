#include "api/cli/cloud.h"

#include <algorithm>
#include <iterator>

namespace kumoi::cli {
namespace {

constexpr size_t kPagesMax = 10'000;
constexpr size_t kMessageBytesMax = 4096;

ErrorCode code_of(int status) {
    switch (status) {
        case 400:
        case 406:
        case 415:
        case 422: return ErrorCode::InvalidArgument;
        case 401: return ErrorCode::Unauthenticated;
        case 403: return ErrorCode::Forbidden;
        case 404:
        case 410: return ErrorCode::NotFound;
        case 409:
        case 412: return ErrorCode::Conflict;
        case 413:
        case 429: return ErrorCode::Exhausted;
        case 501: return ErrorCode::Unsupported;
        case 502:
        case 503: return ErrorCode::Unavailable;
        case 504: return ErrorCode::Timeout;
        default: return ErrorCode::Internal;
    }
}

// The text of an HTML error page.
std::string without_tags(std::string_view html) {
    const size_t body = html.find("<body");
    if (body != std::string_view::npos) {
        html.remove_prefix(body);
    }
    std::string out;
    bool in_tag = false;
    for (const char character : html) {
        if (character == '<') {
            in_tag = true;
        } else if (character == '>') {
            in_tag = false;
            out.push_back(' ');
        } else if (!in_tag) {
            out.push_back(character == '\n' ? ' ' : character);
        }
    }
    std::string words;
    for (const char character : out) {
        if (character != ' ' || (!words.empty() && words.back() != ' ')) {
            words.push_back(character);
        }
    }
    words.erase(words.find_last_not_of(' ') + 1);
    return words;
}

// {"<any>": {"message": "..."}}: Nova, Keystone and Neutron agree so far.
std::string message_of(const std::string& body) {
    const auto json = Json::parse(body);
    if (!json.ok()) {
        return without_tags(body);
    }
    if (json.value().is_object()) {
        for (const auto& member : json.value().as_object()) {
            const std::string message = member.second.string_or("message");
            if (!message.empty()) {
                return message;
            }
        }
    }
    return body;
}

std::string request_id_of(const api::HttpResponse& response) {
    const auto own = response.headers.first("x-openstack-request-id");
    return own ? *own : response.headers.first_or("x-compute-request-id");
}

bool is_match(const Json& service, std::string_view type) {
    return service.string_or("type") == type;
}

// The link to the next page, wherever this API puts it: servers_links (Nova), next (Glance),
// networks_links (Neutron), links.next (Keystone).
std::string next_link(const Json& page, const std::string& key) {
    if (const Json* links = page.find(key + "_links"); links != nullptr && links->is_array()) {
        for (const Json& link : links->as_array()) {
            if (link.string_or("rel") == "next") {
                return link.string_or("href");
            }
        }
    }
    if (const Json* links = page.find("links")) {
        return links->string_or("next");
    }
    return page.string_or("next");
}

std::string without_slash(std::string url) {
    while (url.ends_with('/')) {
        url.pop_back();
    }
    return url;
}

// The same collection with the link's query. The link's host is not followed: the token goes where
// the catalog says and nowhere else.
std::string next_url(const std::string& url, const std::string& link) {
    const size_t query = link.find('?');
    return query == std::string::npos ? std::string()
                                      : url.substr(0, url.find('?')) + link.substr(query);
}

}  // namespace

Error error_of(const api::HttpResponse& response) {
    std::string message = message_of(response.body).substr(0, kMessageBytesMax);
    if (message.empty()) {
        message = fmt::format("The service answered with status {}.", response.status);
    }
    Error error{code_of(response.status), std::move(message), {}, {}};
    const std::string request_id = request_id_of(response);
    if (!request_id.empty()) {
        error.hint = fmt::format("request {}", request_id);
    }
    if (error.message.find("No valid host") != std::string::npos) {
        error.fault = "NoValidHost";
    }
    return error;
}

Result<void> Cloud::log_in() {
    if (!token_.empty()) {
        return {};
    }
    std::string base = without_slash(credentials_.auth_url);
    if (!base.ends_with("/v3")) {
        base += "/v3";
    }
    api::HttpRequest request{
        .method = "POST", .url = base + "/auth/tokens", .body = auth_body(credentials_).dump()};
    request.headers.set("Content-Type", "application/json");
    const auto response = TRY_CONTEXT(transport_(request), "logging in at {}", base);
    if (!response.ok()) {
        Error error = error_of(response);
        if (error.code == ErrorCode::Unauthenticated) {
            error.message = fmt::format("{} was not accepted at {}: {}", credentials_.origin, base,
                                        error.message);
        }
        return error;
    }
    const Json body = TRY(response.json());
    const Json* catalog = body.find_path({"token", "catalog"});
    catalog_ = catalog == nullptr ? Json::array() : *catalog;
    token_ = response.headers.first_or("X-Subject-Token");
    if (token_.empty()) {
        return Error::corrupt("{} answered without a token.", base);
    }
    return {};
}

Result<std::string> Cloud::endpoint(std::string_view service) {
    TRY(log_in());
    for (const Json& entry : catalog_.is_array() ? catalog_.as_array() : Json::Array()) {
        const Json* endpoints = entry.find("endpoints");
        if (!is_match(entry, service) || endpoints == nullptr || !endpoints->is_array()) {
            continue;
        }
        for (const Json& item : endpoints->as_array()) {
            const bool region =
                credentials_.region.empty() || item.string_or("region_id") == credentials_.region;
            if (region && item.string_or("interface") == credentials_.interface) {
                std::string url = without_slash(item.string_or("url"));
                // Glance's and Neutron's catalog entries leave the version out.
                if (service == "image" && !url.ends_with("/v2")) {
                    url += "/v2";
                } else if (service == "network" && !url.ends_with("/v2.0")) {
                    url += "/v2.0";
                }
                return url;
            }
        }
    }
    return Error::not_found("The catalog has no {} service{}.", service,
                            credentials_.region.empty() ? "" : " in region " + credentials_.region)
        .with_hint("A token that is scoped to a project has a catalog: set OS_PROJECT_NAME.");
}

Result<Json> Cloud::send(std::string_view method, std::string_view service, const std::string& url,
                         const Json* body) {
    api::HttpRequest request{.method = std::string(method), .url = url};
    request.headers.set("X-Auth-Token", token_);
    request.headers.set("Accept", "application/json");
    if (service == "compute") {
        request.headers.set("OpenStack-API-Version", kComputeVersion);
        request.headers.set("X-OpenStack-Nova-API-Version",
                            std::string(kComputeVersion).substr(std::string("compute ").size()));
    }
    if (body != nullptr) {
        request.body = body->dump();
        request.headers.set("Content-Type", method == "PATCH"
                                                ? "application/openstack-images-v2.1-json-patch"
                                                : "application/json");
    }
    const auto response = TRY(transport_(request));
    if (!response.ok()) {
        return error_of(response);
    }
    if (response.body.empty()) {
        return Json();
    }
    return TRY_CONTEXT(response.json(), "{} {}", method, url);
}

Result<Json> Cloud::get(std::string_view service, const std::string& path) {
    const std::string url = TRY(endpoint(service)) + path;
    return send("GET", service, url, nullptr);
}

Result<Json> Cloud::post(std::string_view service, const std::string& path, const Json& body) {
    const std::string url = TRY(endpoint(service)) + path;
    return send("POST", service, url, &body);
}

Result<Json> Cloud::put(std::string_view service, const std::string& path, const Json& body) {
    const std::string url = TRY(endpoint(service)) + path;
    return send("PUT", service, url, &body);
}

Result<Json> Cloud::patch(std::string_view service, const std::string& path, const Json& changes) {
    const std::string url = TRY(endpoint(service)) + path;
    return send("PATCH", service, url, &changes);
}

Result<void> Cloud::remove(std::string_view service, const std::string& path) {
    const std::string url = TRY(endpoint(service)) + path;
    TRY(send("DELETE", service, url, nullptr));
    return {};
}

Result<void> Cloud::download(std::string_view service, const std::string& path,
                             std::function<Result<void>(std::span<const std::byte>)> sink) {
    api::HttpRequest request{.method = "GET", .url = TRY(endpoint(service)) + path};
    request.headers.set("X-Auth-Token", token_);
    request.sink = std::move(sink);
    request.timeout_ms = 0;
    const auto response = TRY(transport_(request));
    if (!response.ok()) {
        return error_of(response);
    }
    return {};
}

Result<void> Cloud::upload(std::string_view service, const std::string& path,
                           api::BodySource source, uint64_t length) {
    api::HttpRequest request{.method = "PUT", .url = TRY(endpoint(service)) + path};
    request.headers.set("X-Auth-Token", token_);
    request.headers.set("Content-Type", "application/octet-stream");
    request.source = std::move(source);
    request.source_length = length;
    request.timeout_ms = 0;
    const auto response = TRY(transport_(request));
    if (!response.ok()) {
        return error_of(response);
    }
    return {};
}

Result<Json::Array> Cloud::list(std::string_view service, const std::string& path,
                                const std::string& key) {
    std::string url = TRY(endpoint(service)) + path;
    Json::Array all;
    for (size_t page_index = 0; page_index < kPagesMax && !url.empty(); ++page_index) {
        Json page = TRY(send("GET", service, url, nullptr));
        Json* items = page.find(key);
        if (items == nullptr || !items->is_array()) {
            return Error::corrupt("{} has no list {}.", url, key);
        }
        if (items->size() == 0) {
            break;
        }
        std::move(items->as_array().begin(), items->as_array().end(), std::back_inserter(all));
        url = next_url(url, next_link(page, key));
    }
    return all;
}

}  // namespace kumoi::cli
