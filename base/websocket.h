// WebSocketStream: the server's side of one WebSocket (RFC 6455), so that a program in a browser
// reaches the same bytes as one on a plain socket. Used by the VNC server and the console proxy.
//
//     WebSocketStream socket({"binary"});
//     auto input = TRY(socket.receive(bytes));    // the payload that has come, maybe nothing yet
//     send(socket.take_output());                 // handshake answer, pongs, close
//     send(socket.frame(payload));                // one binary message
//
// The request is HTTP/1.1 GET of any path, at most 8 KiB. Frames of a client must be masked; text
// and binary are taken alike; at most kFrameMax bytes each. An error ends the connection; what
// take_output() then holds (an HTTP 400, a close frame) should still be sent. No sockets; one
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace kumoi {

struct WebSocketRequest {     // what the client's opening request says; borrowed
    std::string_view target;  // "/?token=..."
    std::string_view origin;  // the page that opened it, as the browser says; empty: no browser
    std::string_view host;
    std::string_view cookie;
};

class WebSocketStream {
public:
    static constexpr size_t kRequestMax = 8u << 10;
    static constexpr uint64_t kFrameMax = 1u << 20;
    // An error's text goes to the client as HTTP 403.
    using Approve = std::function<Result<void>(const WebSocketRequest&)>;

    explicit WebSocketStream(std::vector<std::string> protocols, Approve approve = nullptr)
        : protocols_(std::move(protocols)), approve_(std::move(approve)) {}

    Result<std::string> receive(std::string_view bytes);
    std::string take_output() { return std::exchange(output_, {}); }
    static std::string frame(std::string_view payload);
    // The close frame with a status code (§7.4) and a reason of at most 123 bytes.
    static std::string close_frame(uint16_t code, std::string_view reason);
    bool open() const { return open_; }
    bool closed() const { return closed_; }  // the client said so; nothing more comes

private:
    Result<void> take_request(std::string_view request);
    Result<void> refuse(std::string_view status, std::string_view reason);
    // True when a whole frame was there and was taken.
    Result<bool> take_frame(std::string& payload);
    Result<void> act_on(uint8_t opcode, std::string&& content, std::string& payload);

    const std::vector<std::string> protocols_;
    const Approve approve_;
    std::string input_;
    std::string output_;
    bool open_ = false;
    bool closed_ = false;
};

// The Sec-WebSocket-Accept of a Sec-WebSocket-Key (§4.2.2).
std::string websocket_accept(std::string_view key);

}  // namespace kumoi
