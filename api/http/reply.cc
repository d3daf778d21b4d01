#include "api/http/reply.h"

#include "api/http/request.h"

namespace kumoi::api {

Reply Reply::json(const Json& body, int status) {
    return text(body.dump(), status, "application/json");
}

Reply Reply::text(std::string body, int status, std::string_view content_type) {
    Reply reply;
    reply.status = status;
    reply.headers.add("Content-Type", std::string(content_type));
    reply.body = std::move(body);
    return reply;
}

Reply Reply::with_status(int status) {
    Reply reply;
    reply.status = status;
    return reply;
}

Reply Reply::redirect(std::string location, int status) {
    return with_status(status).with_header("Location", std::move(location));
}

Reply Reply::from_file(FileRange range, std::string_view content_type) {
    Reply reply;
    reply.headers.add("Content-Type", std::string(content_type));
    reply.file = std::move(range);
    return reply;
}

Reply Reply::from_source(BodySource source, std::optional<uint64_t> length,
                         std::string_view content_type) {
    Reply reply;
    reply.headers.add("Content-Type", std::string(content_type));
    reply.source = std::move(source);
    reply.source_length = length;
    return reply;
}

Reply& Reply::set_header(std::string_view name, std::string value) & {
    headers.set(name, std::move(value));
    return *this;
}

Reply&& Reply::with_header(std::string_view name, std::string value) && {
    headers.set(name, std::move(value));
    return std::move(*this);
}

std::string_view reason_phrase(int status) {
    switch (status) {
        case 100: return "Continue";
        case 101: return "Switching Protocols";
        case 200: return "OK";
        case 201: return "Created";
        case 202: return "Accepted";
        case 203: return "Non-Authoritative Information";
        case 204: return "No Content";
        case 206: return "Partial Content";
        case 300: return "Multiple Choices";
        case 301: return "Moved Permanently";
        case 302: return "Found";
        case 303: return "See Other";
        case 304: return "Not Modified";
        case 307: return "Temporary Redirect";
        case 308: return "Permanent Redirect";
        case 400: return "Bad Request";
        case 401: return "Unauthorized";
        case 403: return "Forbidden";
        case 404: return "Not Found";
        case 405: return "Method Not Allowed";
        case 406: return "Not Acceptable";
        case 408: return "Request Timeout";
        case 409: return "Conflict";
        case 410: return "Gone";
        case 411: return "Length Required";
        case 412: return "Precondition Failed";
        case 413: return "Content Too Large";
        case 414: return "URI Too Long";
        case 415: return "Unsupported Media Type";
        case 416: return "Range Not Satisfiable";
        case 417: return "Expectation Failed";
        case 422: return "Unprocessable Content";
        case 429: return "Too Many Requests";
        case 431: return "Request Header Fields Too Large";
        case 500: return "Internal Server Error";
        case 501: return "Not Implemented";
        case 502: return "Bad Gateway";
        case 503: return "Service Unavailable";
        case 504: return "Gateway Timeout";
        case 505: return "HTTP Version Not Supported";
        case 507: return "Insufficient Storage";
        default: return "Unknown";
    }
}

Reply render_plain_error(const HttpRefusal& refusal, const Request*) {
    return Reply::json(
        Json::object({{"error", Json::object({{"code", refusal.status},
                                              {"title", reason_phrase(refusal.status)},
                                              {"message", refusal.message}})}}),
        refusal.status);
}

}  // namespace kumoi::api
