#include "api/console/console_session.h"

#include <algorithm>
#include <array>

#include <sys/socket.h>

#include "api/console/socket_io.h"
#include "api/http/url.h"
#include "base/log.h"
#include "base/unix_socket.h"

namespace kumoi::api {

namespace {

constexpr uint16_t kGoingAway = 1001;  // RFC 6455 §7.4.1

std::string lower(std::string_view text) {
    std::string out(text);
    std::ranges::transform(out, out.begin(), [](unsigned char c) {
        return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    });
    return out;
}

// "[::1]:6080" gives "[::1]".
std::string_view without_port(std::string_view authority) {
    const size_t bracket = authority.rfind(']');
    const size_t colon = authority.rfind(':');
    const bool has_port =
        colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket);
    return has_port ? authority.substr(0, colon) : authority;
}

bool wants_websocket(std::string_view head) {
    return lower(head).find("\r\nupgrade: websocket") != std::string::npos;
}

}  // namespace

std::string console_token_of(const WebSocketRequest& request) {
    if (const auto target = parse_target(request.target)) {
        if (const auto token = target->query.first("token")) {
            return *token;
        }
    }
    std::string_view cookies = request.cookie;
    while (!cookies.empty()) {
        const size_t end = std::min(cookies.find(';'), cookies.size());
        std::string_view one = cookies.substr(0, end);
        one.remove_prefix(std::min(one.find_first_not_of(' '), one.size()));
        if (one.starts_with("token=")) {
            return std::string(one.substr(6));
        }
        cookies.remove_prefix(std::min(end + 1, cookies.size()));
    }
    return {};
}

Result<void> check_console_origin(std::string_view origin, std::string_view host,
                                  std::string_view url_base,
                                  const std::vector<std::string>& allowed) {
    if (origin.empty()) {
        return {};  // not from a browser: no page of somebody else's can be behind it
    }
    const size_t colon = origin.find("://");
    const std::string_view scheme = origin.substr(0, colon);
    const std::string name =
        colon == std::string_view::npos ? "" : lower(without_port(origin.substr(colon + 3)));
    const bool known =
        name == lower(without_port(host)) || std::ranges::find(allowed, name) != allowed.end();
    if (name.empty() || !known) {
        return Error::forbidden("The page's origin {} may not open consoles here.", origin);
    }
    std::string_view expected = url_base.substr(0, url_base.find("://"));
    expected = expected == "ws" ? "http" : expected == "wss" ? "https" : expected;
    if (scheme != expected) {
        return Error::forbidden("The page's origin {} does not come by {}.", origin, expected);
    }
    return {};
}

ConsoleSession::ConsoleSession(UniqueFd client, std::string peer, const Services& services)
    : client_(std::move(client)),
      peer_(std::move(peer)),
      services_(services),
      web_({"binary"}, [this](const WebSocketRequest& request) { return approve(request); }) {}

Result<void> ConsoleSession::start(std::function<void()> ended) {
    ended_ = std::move(ended);
    client_watch_ = TRY(services_.loop.watch(client_.get(), EventLoop::kReadable,
                                             [this](uint32_t events) { client_event(events); }));
    return {};
}

void ConsoleSession::client_event(uint32_t events) {
    if ((events & EventLoop::kReadable) != 0) {
        if (const auto more = read_client(); !more || !*more) {
            (void)flush();  // a refusal, or the close frame's answer
            end(more ? "the client left" : more.error().text());
            return;
        }
    }
    if (const auto flushed = flush(); !flushed) {
        end(flushed.error().text());
    } else if (last_ && to_client_.empty()) {
        end("");
    }
}

void ConsoleSession::guest_event(uint32_t events) {
    if ((events & EventLoop::kReadable) != 0) {
        if (const auto more = read_guest(); !more || !*more) {
            to_client_ += WebSocketStream::close_frame(kGoingAway, "the console has ended");
            (void)flush();
            end(more ? "the guest's console ended" : more.error().text());
            return;
        }
    }
    if (const auto flushed = flush(); !flushed) {
        end(flushed.error().text());
    }
}

Result<bool> ConsoleSession::read_client() {
    const auto bytes = TRY(receive_some(client_.get(), "the client"));
    if (!bytes) {
        return true;
    }
    if (bytes->empty()) {
        return false;
    }
    if (last_) {
        return true;  // an answered request: whatever follows it
    }
    TRY(choosing_ ? take_request(*bytes) : take_payload(*bytes));
    return !web_.closed();
}

Result<void> ConsoleSession::take_request(std::string_view bytes) {
    request_ += bytes;
    const size_t end = request_.find("\r\n\r\n");
    if (end == std::string::npos) {
        if (request_.size() > WebSocketStream::kRequestMax) {
            return Error::too_large("a request of more than {} bytes",
                                    WebSocketStream::kRequestMax);
        }
        return {};
    }
    choosing_ = false;
    const std::string whole = std::exchange(request_, {});
    if (wants_websocket(whole.substr(0, end))) {
        return take_payload(whole);
    }
    to_client_ += services_.files.answer(std::string_view(whole).substr(0, end + 2));
    last_ = true;
    return {};
}

Result<void> ConsoleSession::take_payload(std::string_view bytes) {
    auto payload = web_.receive(bytes);
    to_client_ += web_.take_output();
    to_guest_ += TRY(std::move(payload));
    return {};
}

Result<void> ConsoleSession::approve(const WebSocketRequest& request) {
    const compute::ConsoleToken token = TRY(services_.validate(console_token_of(request)));
    TRY(check_console_origin(request.origin, request.host, token.access_url_base,
                             services_.allowed_origins));
    TRY(connect_guest(token));
    log_info("console", "opened",
             {{"server", token.instance_uuid}, {"type", token.type}, {"peer", peer_}});
    return {};
}

Result<void> ConsoleSession::connect_guest(const compute::ConsoleToken& token) {
    auto connected = connect_unix(token.connection.socket, SOCK_NONBLOCK);
    if (!connected.ok()) {
        log_info("console", "a guest's console does not answer",
                 {{"server", token.instance_uuid}, {"error", connected.error().text()}});
        return Error::unavailable("The server's console does not answer; does it run?");
    }
    UniqueFd guest = std::move(*connected);
    guest_watch_ = TRY(services_.loop.watch(guest.get(), EventLoop::kReadable,
                                            [this](uint32_t events) { guest_event(events); }));
    guest_ = std::move(guest);
    server_ = token.instance_uuid;
    return {};
}

Result<bool> ConsoleSession::read_guest() {
    const auto bytes = TRY(receive_some(guest_.get(), "the guest's console"));
    if (!bytes) {
        return true;
    }
    if (bytes->empty()) {
        return false;
    }
    to_client_ += WebSocketStream::frame(*bytes);
    return true;
}

// Writes what waits, and reads from a side only while the other has room.
Result<void> ConsoleSession::flush() {
    TRY(send_some(client_.get(), to_client_, "the client"));
    if (guest_.is_open()) {
        TRY(send_some(guest_.get(), to_guest_, "the guest's console"));
        TRY(guest_watch_.set_events(relay_interest(to_guest_, to_client_)));
    }
    return client_watch_.set_events(relay_interest(to_client_, to_guest_));
}

void ConsoleSession::end(std::string_view reason) {
    if (is_console() || !reason.empty()) {
        log_info("console", "closed",
                 {{"server", server_}, {"peer", peer_}, {"reason", std::string(reason)}});
    }
    client_watch_.reset();
    guest_watch_.reset();
    if (const auto ended = std::exchange(ended_, nullptr)) {
        ended();  // this may be gone now
    }
}

}  // namespace kumoi::api
