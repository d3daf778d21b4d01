#include "api/http/response_head.h"

#include <ctime>

#include "base/clock.h"
#include "base/log.h"

namespace kumoi::api {
namespace {

bool ours_to_write(std::string_view name) {
    for (std::string_view own : {"Content-Length", "Transfer-Encoding", "Connection", "Date"}) {
        if (equal_ignoring_case(name, own)) {
            return true;
        }
    }
    return false;
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
    out.append(name).append(": ").append(value).append("\r\n");
}

void append_handler_fields(std::string& out, const HeaderMap& headers) {
    for (const auto& [name, value] : headers) {
        if (ours_to_write(name)) {
            continue;
        }
        if (!valid_header_name(name) || !valid_header_value(value)) {
            log_error("http", "a reply header would break the message and was left out",
                      {{"name", name}});
            continue;
        }
        append_field(out, name, value);
    }
}

uint64_t body_length(const Reply& reply) {
    if (reply.file) {
        return reply.file->length;
    }
    return reply.source != nullptr ? reply.source_length.value_or(0) : reply.body.size();
}

}  // namespace

ResponseHead write_response_head(const Reply& reply, const ResponseContext& context) {
    ResponseHead head;
    const int status = reply.status >= 200 && reply.status <= 599 ? reply.status : 500;
    const bool unknown_length = reply.source != nullptr && !reply.source_length;
    const bool bodiless = status == 204 || status == 304;
    head.keep_alive = context.keep_alive && !reply.headers.list_has("Connection", "close");
    if (!bodiless && unknown_length && context.version_minor == 0) {
        head.keep_alive = false;
    }
    std::string& out = head.bytes;
    out.reserve(256);
    out = fmt::format("HTTP/1.1 {} {}\r\n", status, reason_phrase(status));
    append_field(out, "Date", http_date(context.wall_ns));
    append_handler_fields(out, reply.headers);
    if (!context.request_id.empty() && !reply.headers.has("X-Openstack-Request-Id")) {
        append_field(out, "X-Openstack-Request-Id", context.request_id);
    }
    if (!bodiless && !unknown_length) {
        head.length = body_length(reply);
        append_field(out, "Content-Length", std::to_string(head.length));
        head.framing = head.length == 0 ? BodyFraming::None : BodyFraming::Counted;
    } else if (!bodiless && context.version_minor == 1) {
        append_field(out, "Transfer-Encoding", "chunked");
        head.framing = BodyFraming::Chunked;
    } else if (!bodiless) {
        head.framing = BodyFraming::UntilClose;
    }
    append_field(out, "Connection", head.keep_alive ? "keep-alive" : "close");
    out += "\r\n";
    if (context.head_request) {
        head.framing = BodyFraming::None;
        head.length = 0;
    }
    return head;
}

std::string http_date(int64_t wall_ns) {
    constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const std::time_t seconds = static_cast<std::time_t>(wall_ns / kNanosPerSecond);
    std::tm time{};
    gmtime_r(&seconds, &time);
    return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[time.tm_wday], time.tm_mday,
                       kMonths[time.tm_mon], time.tm_year + 1900, time.tm_hour, time.tm_min,
                       time.tm_sec);
}

}  // namespace kumoi::api
