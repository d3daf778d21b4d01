// ConsoleSession: one connection to the console proxy: a request for one of noVNC's files, or a
// WebSocket whose payload is relayed to and from a guest's unix socket.
//
// The opening request is judged before it is answered: its Origin must be the proxy's own host or
// one that is allowed, and its token (from the query, or the cookie "token" that older noVNC sets)
// must open a console. Either side that does not read stops the other (socket_io.h). Lives
// on the proxy's thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/console/static_files.h"
#include "base/event_loop.h"
#include "base/fd.h"
#include "base/websocket.h"
#include "compute/conductor/console_auth.h"

namespace kumoi::api {

class ConsoleSession {
public:
    struct Services {
        EventLoop& loop;
        const StaticFiles& files;
        std::vector<std::string> allowed_origins;
        std::function<Result<compute::ConsoleToken>(std::string_view token)> validate;
    };

    ConsoleSession(UniqueFd client, std::string peer, const Services& services);
    // Begins; `ended` is called once, on the loop, and may destroy the session.
    Result<void> start(std::function<void()> ended);
    bool is_console() const { return guest_.is_open(); }

private:
    void client_event(uint32_t events);
    void guest_event(uint32_t events);
    // False when there is nothing more to come; errors end the session.
    Result<bool> read_client();
    Result<bool> read_guest();
    Result<void> take_request(std::string_view bytes);
    Result<void> take_payload(std::string_view bytes);
    Result<void> approve(const WebSocketRequest& request);
    Result<void> check_origin(const WebSocketRequest& request,
                              const compute::ConsoleToken& token) const;
    Result<void> connect_guest(const compute::ConsoleToken& token);
    Result<void> flush();
    void end(std::string_view reason);

    UniqueFd client_;
    const std::string peer_;
    const Services& services_;
    std::function<void()> ended_;
    WebSocketStream web_;
    bool choosing_ = true;  // neither a file nor a WebSocket yet
    bool last_ = false;     // what waits for the client is the last
    std::string request_;
    std::string to_client_;
    std::string to_guest_;
    std::string server_;  // its id, for the log
    UniqueFd guest_;
    EventLoop::Watch client_watch_;
    EventLoop::Watch guest_watch_;
};

// The token of an opening request: ?token=..., or the cookie; empty: none.
std::string console_token_of(const WebSocketRequest& request);
// Nova's rules: `origin` (scheme://host[:port], from a browser) must have the host that was asked,
// or an allowed one, and the scheme of `url_base`, where ws counts as http.
Result<void> check_console_origin(std::string_view origin, std::string_view host,
                                  std::string_view url_base,
                                  const std::vector<std::string>& allowed);

}  // namespace kumoi::api
