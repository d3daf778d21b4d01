// One streaming request on its own thread: the request body is pulled from the socket as the
// handler reads, the reply body is pushed as fast as the client takes it. Memory is one buffer,
// whatever the size. The socket is non-blocking; waits are poll(2) with a limit on time without
// progress.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/http/connection.h"

namespace kumoi::api {

class StreamSession final : public BodyReader {
public:
    enum class End {
        KeepAlive,
        Close,
        Abort
    };  // Abort: the answer is incomplete, the client must see it

    // `fd` stays the caller's. `body` from Connection::take_body().
    StreamSession(int fd, Connection::Body body, const ServerOptions& options, const Clock& clock);

    Result<size_t> read(std::span<std::byte> buffer) override;
    std::optional<uint64_t> declared_length() const override { return body_.declared_length; }

    End send_reply(Reply reply, ResponseContext context);
    std::string leftover() const { return std::string(unread_); }  // bytes of the next request

private:
    Result<void> fill();
    Result<void> wait_for(short events, int64_t timeout_ms);
    Result<void> check_pace(uint64_t bytes) const;
    Result<void> send_all(std::string_view bytes, bool more = false);
    Result<void> send_file(const FileRange& file);
    Result<void> send_source(const BodySource& source, const ResponseHead& head);
    Result<void> send_body(const Reply& reply, const ResponseHead& head);

    const int fd_;
    Connection::Body body_;
    const ServerOptions& options_;
    const Clock& clock_;
    const int64_t started_ns_;
    bool continue_due_;
    std::vector<char> buffer_;
    std::string_view unread_;  // into body_.buffered or buffer_
    uint64_t bytes_sent_ = 0;
};

}  // namespace kumoi::api
