#include "api/http/stream_session.h"

#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace kumoi::api {
namespace {

constexpr size_t kBufferBytes = 256u << 10;
constexpr uint64_t kSendfileBytesMax = 4u << 20;  // a turn; keeps deadlines honest
// A client that keeps a thread busy with a byte now and then is cut after the grace time.
constexpr int64_t kPaceGraceNs = 60 * kNanosPerSecond;
constexpr uint64_t kPaceBytesPerSecondMin = 1024;

Error client_gone(int error_number) {
    return Error::cancelled("The client closed the connection: {}", std::strerror(error_number));
}

}  // namespace

StreamSession::StreamSession(int fd, Connection::Body body, const ServerOptions& options,
                             const Clock& clock)
    : fd_(fd),
      body_(std::move(body)),
      options_(options),
      clock_(clock),
      started_ns_(clock.monotonic_ns()),
      continue_due_(body_.expects_continue),
      unread_(body_.buffered) {}

Result<size_t> StreamSession::read(std::span<std::byte> buffer) {
    KUMOI_ASSERT(!buffer.empty());
    while (!body_.decoder.finished()) {
        if (unread_.empty()) {
            TRY(fill());
        }
        const std::string_view piece = TRY(body_.decoder.decode(unread_, buffer.size()));
        if (!piece.empty()) {
            std::memcpy(buffer.data(), piece.data(), piece.size());
            return piece.size();
        }
    }
    return size_t{0};
}

Result<void> StreamSession::fill() {
    if (continue_due_) {
        continue_due_ = false;
        TRY(send_all("HTTP/1.1 100 Continue\r\n\r\n"));
    }
    buffer_.resize(kBufferBytes);
    TRY(check_pace(body_.decoder.bytes_decoded()));
    while (true) {
        const ssize_t size = ::recv(fd_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
        if (size > 0) {
            unread_ = std::string_view(buffer_.data(), static_cast<size_t>(size));
            return {};
        }
        if (size == 0) {
            return Error::cancelled("The client closed the connection after {} bytes of the body",
                                    body_.decoder.bytes_decoded());
        }
        if (errno == EAGAIN) {
            TRY(wait_for(POLLIN, options_.body_timeout_ms));
        } else if (errno != EINTR) {
            return client_gone(errno);
        }
    }
}

Result<void> StreamSession::wait_for(short events, int64_t timeout_ms) {
    pollfd ready{fd_, events, 0};
    const int count = ::poll(&ready, 1, static_cast<int>(std::min<int64_t>(timeout_ms, 1 << 30)));
    if (count == 0) {
        return Error::timeout("The client made no progress for {} ms", timeout_ms);
    }
    return count < 0 && errno != EINTR ? Error::from_errno(errno, "Waiting for a client")
                                       : Result<void>();
}

Result<void> StreamSession::check_pace(uint64_t bytes) const {
    const int64_t elapsed_ns = clock_.monotonic_ns() - started_ns_;
    if (elapsed_ns < kPaceGraceNs) {
        return {};
    }
    const auto seconds = static_cast<uint64_t>(elapsed_ns / kNanosPerSecond);
    if (bytes / seconds < kPaceBytesPerSecondMin) {
        return Error::timeout("The client moved {} bytes in {} s, at least {} bytes/s are expected",
                              bytes, seconds, kPaceBytesPerSecondMin);
    }
    return {};
}

StreamSession::End StreamSession::send_reply(Reply reply, ResponseContext context) {
    const bool body_done = body_.decoder.finished();
    context.keep_alive = context.keep_alive && body_done;
    context.wall_ns = clock_.wall_ns();
    const ResponseHead head = write_response_head(reply, context);
    const bool has_body = head.framing != BodyFraming::None;
    Result<void> sent = send_all(head.bytes, has_body);
    if (sent.ok() && has_body) {
        sent = send_body(reply, head);
    }
    if (!sent.ok()) {
        log_info("http", "an answer was cut short", {{"reason", sent.error().text()}});
        return End::Abort;
    }
    return head.keep_alive ? End::KeepAlive : End::Close;
}

Result<void> StreamSession::send_body(const Reply& reply, const ResponseHead& head) {
    if (reply.file) {
        return send_file(*reply.file);
    }
    if (reply.source != nullptr) {
        return send_source(reply.source, head);
    }
    return send_all(reply.body);
}

Result<void> StreamSession::send_all(std::string_view bytes, bool more) {
    while (!bytes.empty()) {
        const int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0);
        const ssize_t size = ::send(fd_, bytes.data(), bytes.size(), flags);
        if (size >= 0) {
            bytes.remove_prefix(static_cast<size_t>(size));
            bytes_sent_ += static_cast<uint64_t>(size);
        } else if (errno == EAGAIN) {
            TRY(wait_for(POLLOUT, options_.write_timeout_ms));
            TRY(check_pace(bytes_sent_ + body_.decoder.bytes_decoded()));
        } else if (errno != EINTR) {
            return client_gone(errno);
        }
    }
    return {};
}

Result<void> StreamSession::send_file(const FileRange& file) {
    auto offset = static_cast<off_t>(file.offset);
    for (uint64_t left = file.length; left > 0;) {
        const ssize_t size = ::sendfile(fd_, file.fd.get(), &offset,
                                        static_cast<size_t>(std::min(left, kSendfileBytesMax)));
        if (size > 0) {
            left -= static_cast<uint64_t>(size);
            bytes_sent_ += static_cast<uint64_t>(size);
        } else if (size == 0) {
            return Error::corrupt("The file ended {} bytes before its length", left);
        } else if (errno == EAGAIN) {
            TRY(wait_for(POLLOUT, options_.write_timeout_ms));
            TRY(check_pace(bytes_sent_ + body_.decoder.bytes_decoded()));
        } else if (errno != EINTR) {
            return client_gone(errno);
        }
    }
    return {};
}

Result<void> StreamSession::send_source(const BodySource& source, const ResponseHead& head) {
    std::vector<std::byte> piece(kBufferBytes);
    const bool chunked = head.framing == BodyFraming::Chunked;
    uint64_t total = 0;
    while (true) {
        const size_t size = TRY(source(piece));
        if (size == 0) {
            break;
        }
        total += size;
        if (head.framing == BodyFraming::Counted && total > head.length) {
            return Error::internal("A body source gave more than its {} bytes", head.length);
        }
        if (chunked) {
            TRY(send_all(fmt::format("{:x}\r\n", size), true));
        }
        TRY(send_all({reinterpret_cast<const char*>(piece.data()), size}, chunked));
        if (chunked) {
            TRY(send_all("\r\n"));
        }
    }
    if (head.framing == BodyFraming::Counted && total < head.length) {
        return Error::internal("A body source gave {} of its {} bytes", total, head.length);
    }
    return chunked ? send_all("0\r\n\r\n") : Result<void>();
}

}  // namespace kumoi::api
