// Connection: everything a server must know about one client connection except the socket. Bytes go
// in, one request at a time comes out, its answer goes in, bytes come out; the deadlines say when
// to give up. No I/O, no threads, no clock of its own, so every rule is tested without a network.
// Owned by one I/O thread of a server.
//
//     connection.receive(bytes);                        // while wants_input()
//     if (auto next = connection.next_request()) ...    // run it; then connection.answer(...)
//     send(connection.output()); connection.sent(n);    // while output() is not empty
//     if (connection.wants_shutdown()) shutdown(fd, SHUT_WR);
//     if (connection.closed()) close(fd);
//
//                 head complete        body complete     next_request()      answer()
//      AwaitHead ---------------> AwaitBody --------> Ready ---------> Running -------> Replying
//          ^                                                                              |  |
//          +-------------------------------- keep-alive, all sent ------------------------+  |
//      Closed <-- end of input or deadline -- Lingering <------- close, all sent ------------+
//
// Requests of one connection run one after the other, so pipelined ones are answered in order, and
// while one runs nothing is read: a client that floods us fills its own socket buffer, not our
// memory. Lingering (shutdown, then discard) lets the client read a refusal before the reset that
// closing with unread input would cause.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/http/body_decoder.h"
#include "api/http/request.h"
#include "api/http/request_parser.h"
#include "api/http/response_head.h"
#include "api/http/router.h"
#include "api/http/server.h"

namespace kumoi::api {

// One reply, ready for the wire.
struct Answer {
    std::string bytes;
    bool keep_alive = false;
};
Answer make_answer(Reply reply, const ResponseContext& context);

class Connection {
public:
    struct Next {
        Request request;
        ResponseContext context;  // wall_ns is set when the answer is made
        bool stream = false;      // then the body is still to be read: see take_body()
    };

    // All three must outlive the connection.
    Connection(const ServerOptions& options, const Router& router,
               const ServerDependencies& dependencies, std::string peer_address,
               std::string local_address);

    bool wants_input() const;
    void receive(std::string_view bytes);
    void receive_end();  // what is complete by now is still answered
    std::optional<Next> next_request();
    void answer(Answer answer);

    std::string_view output() const;
    void sent(size_t count);
    bool wants_shutdown();  // true once: close the sending direction now
    bool closed() const { return state_ == State::Closed; }

    int64_t deadline_ns() const;  // INT64_MAX: none
    void expire();                // call when the deadline has passed
    void drain();                 // close as soon as nothing runs
    void abort() { state_ = State::Closed; }

    // For streaming requests, between next_request() and resume(): the bytes read too far and the
    // decoder for them, and back.
    struct Body {
        std::string buffered;
        BodyDecoder decoder;
        std::optional<uint64_t> declared_length;
        bool expects_continue = false;
    };
    Body take_body();
    void resume(std::string leftover, bool keep_alive);

private:
    enum class State { AwaitHead, AwaitBody, Ready, Running, Replying, Lingering, Closed };

    void advance();
    bool try_head();
    bool try_body();
    void start_body(RequestHead head);
    void build_request(RequestHead head);
    void refuse(const HttpRefusal& refusal);
    void finish_reply();
    void compact();
    std::string_view unread() const { return std::string_view(input_).substr(consumed_); }
    int64_t now() const { return dependencies_.clock.monotonic_ns(); }

    const ServerOptions& options_;
    const Router& router_;
    const ServerDependencies& dependencies_;
    const std::string peer_address_;
    const std::string local_address_;

    std::string input_;
    size_t consumed_ = 0;  // of input_
    HeadScanner scanner_;
    BodyDecoder decoder_ = BodyDecoder::none();
    uint64_t content_length_ = 0;
    Request request_;
    ResponseContext context_;

    std::string output_;
    size_t output_sent_ = 0;
    size_t discarded_ = 0;                    // while lingering
    std::optional<int64_t> head_started_ns_;  // none: no byte of a head yet
    int64_t since_ns_ = 0;                    // start of the wait that deadline_ns() measures

    State state_ = State::AwaitHead;
    bool input_ended_ = false;
    bool draining_ = false;
    bool chunked_ = false;
    bool expects_continue_ = false;
    bool stream_ = false;
    bool keep_alive_ = true;  // after the answer that is going out
    bool shutdown_due_ = false;
    bool first_request_ = true;
};

}  // namespace kumoi::api
