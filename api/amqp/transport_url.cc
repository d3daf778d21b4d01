#include "api/amqp/transport_url.h"

#include <charconv>

namespace kumoi::amqp {
namespace {

constexpr size_t kUrlBytesMax = 16 * 1024;
constexpr size_t kHostsMax = 64;

int hex_digit(char digit) {
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    const char lower = static_cast<char>(digit | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// Cuts `text` at the first `separator`; `rest` is empty without one.
std::string_view cut(std::string_view& rest, char separator) {
    const size_t end = rest.find(separator);
    const std::string_view part = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    return part;
}

Result<uint16_t> parse_port(std::string_view text) {
    uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc() || end != text.data() + text.size() || port == 0) {
        return Error::invalid("transport_url: {} is not a port from 1 to 65535", text);
    }
    return port;
}

Result<void> parse_address(std::string_view text, TransportUrl::Host& host) {
    std::string_view port;
    if (text.starts_with('[')) {
        const size_t end = text.find(']');
        if (end == std::string_view::npos) {
            return Error::invalid("transport_url: the bracket of {} is never closed", text);
        }
        host.host = text.substr(1, end - 1);
        port = text.substr(end + 1);
        if (!port.empty() && port.front() != ':') {
            return Error::invalid("transport_url: {} follows an address in brackets", port);
        }
        port = port.empty() ? port : port.substr(1);
    } else {
        port = text;
        host.host = cut(port, ':');
    }
    if (host.host.empty()) {
        return Error::invalid("transport_url: a host has no name");
    }
    if (!port.empty()) {
        host.port = TRY(parse_port(port));
    }
    return {};
}

Result<TransportUrl::Host> parse_host(std::string_view text, const TransportUrl::Host* first) {
    TransportUrl::Host host;
    if (first != nullptr) {
        host.user = first->user;
        host.password = first->password;
    }
    const size_t at = text.rfind('@');
    if (at != std::string_view::npos) {
        std::string_view password = text.substr(0, at);
        const bool has_password = password.find(':') != std::string_view::npos;
        host.user = TRY(percent_decode(cut(password, ':')));
        host.password = has_password ? TRY(percent_decode(password)) : std::string();
        text = text.substr(at + 1);
    }
    TRY(parse_address(text, host));
    return host;
}

Result<void> parse_query(std::string_view query, std::map<std::string, std::string>& options) {
    while (!query.empty()) {
        std::string_view value = cut(query, '&');
        const std::string name = TRY(percent_decode(cut(value, '=')));
        if (!name.empty()) {
            options[name] = TRY(percent_decode(value));
        }
    }
    return {};
}

}  // namespace

Result<std::string> percent_decode(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (size_t index = 0; index < text.size(); ++index) {
        if (text[index] != '%') {
            out.push_back(text[index]);
            continue;
        }
        const int high = index + 2 < text.size() ? hex_digit(text[index + 1]) : -1;
        const int low = index + 2 < text.size() ? hex_digit(text[index + 2]) : -1;
        if (high < 0 || low < 0) {
            return Error::invalid("a percent sign needs two hexadecimal digits after it")
                .with_hint("Write a percent sign itself as %25.");
        }
        out.push_back(static_cast<char>(high * 16 + low));
        index += 2;
    }
    if (out.find('\0') != std::string::npos) {
        return Error::invalid("%00 cannot stand in a transport_url");
    }
    return out;
}

std::string TransportUrl::Host::text() const {
    return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                               : fmt::format("[{}]:{}", host, port);
}

std::string TransportUrl::text() const {
    std::string out = "rabbit://";
    for (const Host& host : hosts) {
        out += (&host == hosts.data() ? "" : ",") + host.text();
    }
    return out + "/" + (vhost == "/" ? "" : vhost);
}

Result<TransportUrl> TransportUrl::parse(std::string_view text) {
    if (text.size() > kUrlBytesMax || text.find('\0') != std::string_view::npos) {
        return Error::invalid("transport_url: {} bytes, or a zero byte in it; at most {} are taken",
                              text.size(), kUrlBytesMax);
    }
    const size_t scheme_end = text.find("://");
    const std::string_view scheme =
        scheme_end == std::string_view::npos ? std::string_view() : text.substr(0, scheme_end);
    if (scheme != "rabbit" && scheme != "kombu") {
        return Error::invalid("transport_url: the scheme \"{}\" is not offered", scheme)
            .with_hint("Write rabbit://USER:PASSWORD@HOST:5672/VHOST.");
    }
    std::string_view query = text.substr(scheme_end + 3);
    std::string_view path = cut(query, '?');
    std::string_view hosts = cut(path, '/');
    TransportUrl url;
    while (!hosts.empty()) {
        const std::string_view part = cut(hosts, ',');
        if (part.empty()) {
            continue;
        }
        if (url.hosts.size() == kHostsMax) {
            return Error::invalid("transport_url: more than {} hosts", kHostsMax);
        }
        Host host = TRY(parse_host(part, url.hosts.empty() ? nullptr : url.hosts.data()));
        url.hosts.push_back(std::move(host));
    }
    if (url.hosts.empty()) {
        url.hosts.push_back({.host = "localhost"});  // oslo.messaging's default, "rabbit://"
    }
    if (!path.empty()) {
        url.vhost = TRY_CONTEXT(percent_decode(path), "transport_url, vhost");
    }
    TRY_CONTEXT(parse_query(query, url.options), "transport_url, query");
    return url;
}

}  // namespace kumoi::amqp
