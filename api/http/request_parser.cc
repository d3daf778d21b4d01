#include "api/http/request_parser.h"

#include <algorithm>

namespace kumoi::api {
namespace {

constexpr size_t kMethodBytesMax = 32;
constexpr size_t kContentLengthDigitsMax = 18;  // below 2^60

HttpRefusal bad_request(std::string message) {
    return {400, std::move(message)};
}

std::optional<HttpRefusal> parse_request_line(std::string_view line, RequestHead& head) {
    const size_t first = line.find(' ');
    const size_t last = line.rfind(' ');
    if (first == std::string_view::npos || first == last) {
        return bad_request("The request line is not 'METHOD TARGET HTTP/1.1'.");
    }
    head.method = line.substr(0, first);
    if (!valid_header_name(head.method) || head.method.size() > kMethodBytesMax) {
        return bad_request("The request method is not a token.");
    }
    const std::string_view version = line.substr(last + 1);
    if (version == "HTTP/1.0" || version == "HTTP/1.1") {
        head.version_minor = version.back() - '0';
    } else if (version.starts_with("HTTP/")) {
        return HttpRefusal{505, "Only HTTP/1.0 and HTTP/1.1 are spoken here."};
    } else {
        return bad_request("The request line does not end with an HTTP version.");
    }
    head.raw_target = line.substr(first + 1, last - first - 1);
    const bool visible =
        std::all_of(head.raw_target.begin(), head.raw_target.end(),
                    [](char character) { return character > 0x20 && character < 0x7f; });
    if (head.raw_target.empty() || !visible) {
        return bad_request("The request target holds bytes that must be percent-encoded.");
    }
    Result<Target> target = parse_target(head.raw_target);
    if (!target.ok()) {
        return bad_request(target.error().message + ".");
    }
    head.target = std::move(target).value();
    return std::nullopt;
}

std::optional<HttpRefusal> parse_fields(std::string_view lines, const HeadLimits& limits,
                                        HeaderMap& headers) {
    while (!lines.empty()) {
        const size_t end = lines.find("\r\n");
        const std::string_view line = lines.substr(0, end);
        lines.remove_prefix(end == std::string_view::npos ? lines.size() : end + 2);
        const size_t colon = line.find(':');
        if (colon == std::string_view::npos || !valid_header_name(line.substr(0, colon))) {
            // Also a folded line and a space before the colon (RFC 9112 §5.1, §5.2).
            return bad_request("A header line is not 'Name: value'.");
        }
        const std::string_view value = trim(line.substr(colon + 1));
        if (!valid_header_value(value)) {
            return bad_request("The value of header " + std::string(line.substr(0, colon)) +
                               " holds control bytes.");
        }
        if (headers.size() == limits.count_max) {
            return HttpRefusal{
                431, fmt::format("The request has more than {} header lines.", limits.count_max)};
        }
        headers.add(std::string(line.substr(0, colon)), std::string(value));
    }
    return std::nullopt;
}

// RFC 9112 §6.3. Returns a refusal for everything two readers could understand differently.
std::optional<HttpRefusal> read_framing(RequestHead& head) {
    const auto encodings = head.headers.all("Transfer-Encoding");
    const auto lengths = head.headers.all("Content-Length");
    if (!encodings.empty()) {
        if (!lengths.empty()) {
            return bad_request("The request has both Content-Length and Transfer-Encoding.");
        }
        if (head.version_minor == 0) {
            return bad_request("Transfer-Encoding is not part of HTTP/1.0.");
        }
        if (encodings.size() != 1 || !equal_ignoring_case(encodings[0], "chunked")) {
            return HttpRefusal{501, "The only transfer encoding accepted is 'chunked'."};
        }
        head.chunked = true;
        return std::nullopt;
    }
    if (lengths.size() > 1) {
        return bad_request("The request has more than one Content-Length.");
    }
    if (lengths.empty()) {
        return std::nullopt;
    }
    const std::string& text = lengths[0];
    if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) {
        return bad_request("The Content-Length is not a number.");
    }
    if (text.size() > kContentLengthDigitsMax) {
        return HttpRefusal{413, "The Content-Length is beyond any limit of this service."};
    }
    for (char digit : text) {
        head.content_length = head.content_length * 10 + static_cast<uint64_t>(digit - '0');
    }
    return std::nullopt;
}

std::optional<HttpRefusal> check_host(RequestHead& head) {
    const auto hosts = head.headers.all("Host");
    if (hosts.size() > 1 || (hosts.empty() && head.version_minor == 1)) {
        return bad_request("An HTTP/1.1 request must have exactly one Host header.");
    }
    if (!hosts.empty() && !valid_host(hosts[0])) {
        return bad_request("The Host header is not 'name' or 'name:port'.");
    }
    if (!head.target.authority.empty()) {
        if (!valid_host(head.target.authority)) {
            return bad_request("The host in the request target is not 'name' or 'name:port'.");
        }
        head.headers.set("Host", head.target.authority);  // RFC 9112 §3.2.2: it wins
    }
    return std::nullopt;
}

std::optional<HttpRefusal> read_options(RequestHead& head) {
    // HTTP/1.0 is always closed: its keep-alive was never standardised.
    head.keep_alive = head.version_minor == 1 && !head.headers.list_has("Connection", "close");
    if (head.version_minor == 0) {
        return std::nullopt;
    }
    for (const std::string& expectation : head.headers.list("Expect")) {
        if (!equal_ignoring_case(expectation, "100-continue")) {
            return HttpRefusal{417, "The only expectation understood is '100-continue'."};
        }
        head.expects_continue = true;
    }
    return std::nullopt;
}

bool valid_port(std::string_view text) {
    if (text.size() > 5 || text.find_first_not_of("0123456789") != std::string_view::npos) {
        return false;
    }
    int port = 0;
    for (char digit : text) {
        port = port * 10 + (digit - '0');
    }
    return port <= 65535;
}

}  // namespace

Result<size_t> HeadScanner::scan(std::string_view input) {
    for (; scanned_ < input.size(); ++scanned_) {
        if (input[scanned_] != '\n') {
            if (scanned_ > 0 && input[scanned_ - 1] == '\r') {
                return Error::invalid("A line of the request head has a lone carriage return");
            }
            continue;
        }
        if (scanned_ == 0 || input[scanned_ - 1] != '\r') {
            return Error::invalid("A line of the request head does not end with CR LF");
        }
        const bool empty_line = scanned_ - line_start_ == 1;
        line_start_ = scanned_ + 1;
        if (empty_line) {
            return line_start_;
        }
    }
    return size_t{0};
}

HeadOutcome parse_head(std::string_view head, const HeadLimits& limits) {
    const auto refuse = [](HttpRefusal refusal) {
        return HeadOutcome{std::nullopt, std::move(refusal)};
    };
    if (head.size() > limits.bytes_max) {
        return refuse(
            {431, fmt::format("The request head has more than {} bytes.", limits.bytes_max)});
    }
    if (!head.ends_with("\r\n\r\n")) {
        return refuse(bad_request("The request head does not end with an empty line."));
    }
    head.remove_suffix(2);
    const size_t line_end = head.find("\r\n");
    HeadOutcome outcome;
    RequestHead& parsed = outcome.head.emplace();
    if (auto refusal = parse_request_line(head.substr(0, line_end), parsed)) {
        return refuse(std::move(*refusal));
    }
    if (auto refusal = parse_fields(head.substr(line_end + 2), limits, parsed.headers)) {
        return refuse(std::move(*refusal));
    }
    for (auto* check : {read_framing, check_host, read_options}) {
        if (auto refusal = check(parsed)) {
            return refuse(std::move(*refusal));
        }
    }
    return outcome;
}

// RFC 3986 §3.2.2: a name, an IPv4 address or an IPv6 address in brackets; an optional port.
bool valid_host(std::string_view host) {
    std::string_view port;
    if (host.starts_with('[')) {
        const size_t close = host.find(']');
        if (close == std::string_view::npos) {
            return false;
        }
        const std::string_view address = host.substr(1, close - 1);
        port = host.substr(close + 1);
        if (address.empty() ||
            address.find_first_not_of("0123456789abcdefABCDEF:.") != std::string_view::npos) {
            return false;
        }
        return port.empty() || (port.starts_with(':') && valid_port(port.substr(1)));
    }
    const size_t colon = host.find(':');
    if (colon != std::string_view::npos) {
        port = host.substr(colon + 1);
        host = host.substr(0, colon);
    }
    const bool plain = std::all_of(host.begin(), host.end(), [](char character) {
        return (character >= '0' && character <= '9') || (character >= 'a' && character <= 'z') ||
               (character >= 'A' && character <= 'Z') || character == '-' || character == '.' ||
               character == '_' || character == '~';
    });
    return plain && host.size() <= 253 && valid_port(port);
}

}  // namespace kumoi::api
