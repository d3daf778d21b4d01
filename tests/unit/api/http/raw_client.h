// A client that sends exactly the bytes a test says and parses answers just enough to check them.
// Every wait has a deadline of ten seconds, so a hanging server fails the test instead of hanging
// it.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "api/http/headers.h"
#include "base/fd.h"

namespace kumoi::api {

struct RawResponse {
    int status = 0;
    HeaderMap headers;
    std::string body;
};

class RawClient {
public:
    explicit RawClient(uint16_t port, int receive_buffer_bytes = 0) {
        fd_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (receive_buffer_bytes > 0) {
            ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes,
                         sizeof(receive_buffer_bytes));
        }
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        connected_ =
            ::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    }

    bool connected() const { return connected_; }
    int fd() const { return fd_.get(); }

    bool send(std::string_view text) {
        while (!text.empty()) {
            const ssize_t size = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
            if (size <= 0) {
                return false;
            }
            text.remove_prefix(static_cast<size_t>(size));
        }
        return true;
    }
    void end_sending() { ::shutdown(fd_.get(), SHUT_WR); }
    void reset() {
        const linger hard{1, 0};
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
        fd_.reset();
    }

    // One answer; nullopt when the connection ended or ten seconds passed first.
    std::optional<RawResponse> response(bool head_request = false) {
        size_t end = 0;
        while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
            if (!fill()) {
                return std::nullopt;
            }
        }
        RawResponse parsed = parse_head(buffer_.substr(0, end + 2));
        buffer_.erase(0, end + 4);
        if (head_request || parsed.status < 200 || parsed.status == 204 || parsed.status == 304) {
            return parsed;
        }
        if (parsed.headers.list_has("Transfer-Encoding", "chunked")) {
            return read_chunks(parsed) ? std::optional(parsed) : std::nullopt;
        }
        const auto length = parsed.headers.first("Content-Length");
        if (!length) {
            while (fill()) {
            }
            parsed.body = std::move(buffer_);
            return parsed;
        }
        const size_t size = std::strtoul(length->c_str(), nullptr, 10);
        while (buffer_.size() < size) {
            if (!fill()) {
                return std::nullopt;
            }
        }
        parsed.body = buffer_.substr(0, size);
        buffer_.erase(0, size);
        return parsed;
    }

    // True when the server closes without sending more.
    bool closed_by_server() { return buffer_.empty() && !fill() && ended_; }
    const std::string& unread() const { return buffer_; }

    // True when nothing arrives and nothing is closed for that long.
    bool silent_for(int milliseconds) {
        pollfd ready{fd_.get(), POLLIN, 0};
        return buffer_.empty() && ::poll(&ready, 1, milliseconds) == 0;
    }
    bool fill() {
        pollfd ready{fd_.get(), POLLIN, 0};
        if (::poll(&ready, 1, 10'000) <= 0) {
            return false;
        }
        char bytes[65536];
        const ssize_t size = ::recv(fd_.get(), bytes, sizeof(bytes), 0);
        if (size <= 0) {
            ended_ = true;
            return false;
        }
        buffer_.append(bytes, static_cast<size_t>(size));
        return true;
    }

private:
    static RawResponse parse_head(const std::string& head) {
        RawResponse parsed;
        parsed.status = std::atoi(head.c_str() + std::string_view("HTTP/1.1 ").size());
        size_t at = head.find("\r\n") + 2;
        while (at < head.size()) {
            const size_t end = head.find("\r\n", at);
            const std::string line = head.substr(at, end - at);
            const size_t colon = line.find(':');
            parsed.headers.add(line.substr(0, colon),
                               std::string(trim(std::string_view(line).substr(colon + 1))));
            at = end + 2;
        }
        return parsed;
    }
    bool read_chunks(RawResponse& parsed) {
        while (true) {
            size_t end = 0;
            while ((end = buffer_.find("\r\n")) == std::string::npos) {
                if (!fill()) {
                    return false;
                }
            }
            const size_t size = std::strtoul(buffer_.c_str(), nullptr, 16);
            while (buffer_.size() < end + 2 + size + 2) {
                if (!fill()) {
                    return false;
                }
            }
            parsed.body += buffer_.substr(end + 2, size);
            buffer_.erase(0, end + 2 + size + 2);
            if (size == 0) {
                return true;
            }
        }
    }

    UniqueFd fd_;
    bool connected_ = false;
    bool ended_ = false;
    std::string buffer_;
};

}  // namespace kumoi::api
