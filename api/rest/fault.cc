#include "api/rest/fault.h"

#include <algorithm>
#include <array>

#include "base/json.h"
#include "base/log.h"

namespace kumoi::api {
namespace {

struct StatusByFault {
    std::string_view fault;
    int status;
};

// Faults whose status is not the one of their code.
constexpr std::array kStatusByFault{
    StatusByFault{"MethodNotAllowed", 405},
    StatusByFault{"NotAcceptable", 406},
    StatusByFault{"VersionNotFoundForAPIVersion", 406},
    StatusByFault{"Gone", 410},
    StatusByFault{"PreconditionFailed", 412},
    StatusByFault{"OverLimit", 413},
    StatusByFault{"UnsupportedMediaType", 415},
    StatusByFault{"TooManyRequests", 429},
};

int exhausted_status(ApiShape shape, const Error& error) {
    if (error.fault == "NoValidHost" || error.fault == "HostsFull" || error.fault.empty()) {
        // Not the tenant's quota: the service itself has no room.
        return shape == ApiShape::Neutron ? 409 : 503;
    }
    switch (shape) {
        case ApiShape::Neutron: return 409;
        case ApiShape::Glance: return 413;
        default: return 403;
    }
}

std::string_view nova_name(int status) {
    switch (status) {
        case 400: return "badRequest";
        case 401: return "unauthorized";
        case 403: return "forbidden";
        case 404: return "itemNotFound";
        case 405: return "badMethod";
        case 409: return "conflictingRequest";
        case 413:
        case 429: return "overLimit";
        case 415: return "badMediaType";
        case 501: return "notImplemented";
        case 503: return "serviceUnavailable";
        default: return "computeFault";
    }
}

std::string_view neutron_type(int status) {
    switch (status) {
        case 400: return "HTTPBadRequest";
        case 401: return "HTTPUnauthorized";
        case 403: return "PolicyNotAuthorized";
        case 404: return "HTTPNotFound";
        case 409: return "HTTPConflict";
        case 413: return "HTTPRequestEntityTooLarge";
        case 429: return "HTTPTooManyRequests";
        case 501: return "HTTPNotImplemented";
        case 503: return "HTTPServiceUnavailable";
        default: return status >= 500 ? "HTTPInternalServerError" : "HTTPClientError";
    }
}

std::string escape_html(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (const char character : text) {
        switch (character) {
            case '&': out += "&amp;"; break;
            case '<': out += "&lt;"; break;
            case '>': out += "&gt;"; break;
            case '"': out += "&quot;"; break;
            default: out.push_back(character);
        }
    }
    return out;
}

Reply glance_page(int status, std::string_view message) {
    const std::string title = fmt::format("{} {}", status, reason_phrase(status));
    return Reply::text(fmt::format("<html>\n <head>\n  <title>{0}</title>\n </head>\n <body>\n"
                                   "  <h1>{0}</h1>\n  {1}<br /><br />\n\n\n </body>\n</html>",
                                   title, escape_html(message)),
                       status, "text/html; charset=UTF-8");
}

bool is_our_failure(const Error& error, int status) {
    return status == 500 || error.code == ErrorCode::Internal;
}

}  // namespace

int http_status(ApiShape shape, const Error& error) {
    const auto* const found =
        std::find_if(kStatusByFault.begin(), kStatusByFault.end(),
                     [&](const StatusByFault& entry) { return entry.fault == error.fault; });
    if (found != kStatusByFault.end()) {
        return found->status;
    }
    switch (error.code) {
        case ErrorCode::InvalidArgument: return 400;
        case ErrorCode::Unauthenticated: return 401;
        case ErrorCode::Forbidden: return 403;
        case ErrorCode::NotFound: return 404;
        case ErrorCode::Conflict:
        case ErrorCode::Cancelled: return 409;
        case ErrorCode::TooLarge: return 413;
        case ErrorCode::Exhausted: return exhausted_status(shape, error);
        case ErrorCode::Unavailable: return 503;
        case ErrorCode::Timeout: return 504;
        case ErrorCode::Unsupported: return 501;
        case ErrorCode::Corrupt:
        case ErrorCode::Io:
        case ErrorCode::Internal: return 500;
    }
    return 500;
}

Reply fault_body(ApiShape shape, int status, std::string_view message, std::string_view type,
                 const Request* request) {
    switch (shape) {
        case ApiShape::Nova:
            return Reply::json(
                Json::object({{std::string(nova_name(status)),
                               Json::object({{"code", status}, {"message", message}})}}),
                status);
        case ApiShape::Keystone:
            return Reply::json(
                Json::object({{"error", Json::object({{"code", status},
                                                      {"message", message},
                                                      {"title", reason_phrase(status)}})}}),
                status);
        case ApiShape::Neutron:
            return Reply::json(
                Json::object({{"NeutronError",
                               Json::object({{"type", type.empty() ? neutron_type(status) : type},
                                             {"message", message},
                                             {"detail", ""}})}}),
                status);
        case ApiShape::Glance: return glance_page(status, message);
        case ApiShape::Placement: break;
    }
    Json error =
        Json::object({{"status", status}, {"title", reason_phrase(status)}, {"detail", message}});
    if (request != nullptr) {
        error.set("request_id", request->request_id);
    }
    Json body = Json::object();
    body.set("errors", Json(Json::Array{std::move(error)}));
    return Reply::json(body, status);
}

Reply fault_reply(ApiShape shape, const Error& error, const Request* request) {
    const int status = http_status(shape, error);
    if (is_our_failure(error, status)) {
        log_error("api", "request failed",
                  {{"request", request != nullptr ? request->request_id : std::string()},
                   {"code", to_string(error.code)},
                   {"error", error.text()}});
        return fault_body(shape, status,
                          fmt::format("The service failed unexpectedly; its log tells more under "
                                      "request {}.",
                                      request != nullptr ? request->request_id : "(none)"),
                          {}, request);
    }
    Reply reply = fault_body(shape, status, error.text(), error.fault, request);
    if (status == 503 || status == 429) {
        reply.headers.set("Retry-After", "5");
    }
    return reply;
}

ErrorRenderer fault_renderer(ApiShape shape) {
    return [shape](const HttpRefusal& refusal, const Request* request) {
        return fault_body(shape, refusal.status, refusal.message, {}, request);
    };
}

Handler answer(ApiShape shape, ResultHandler handler) {
    return [shape, handler = std::move(handler)](Request& request) {
        auto reply = handler(request);
        return reply.ok() ? std::move(reply).value() : fault_reply(shape, reply.error(), &request);
    };
}

StreamHandler answer_stream(ApiShape shape, ResultStreamHandler handler) {
    return [shape, handler = std::move(handler)](Request& request, BodyReader& body) {
        auto reply = handler(request, body);
        return reply.ok() ? std::move(reply).value() : fault_reply(shape, reply.error(), &request);
    };
}

}  // namespace kumoi::api
