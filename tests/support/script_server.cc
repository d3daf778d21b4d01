#include "tests/support/script_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace kumoi::test {
namespace {

bool read_more(int fd, std::string& buffer) {
    char chunk[65536];
    const ssize_t count = ::recv(fd, chunk, sizeof(chunk), 0);
    if (count <= 0) {
        return false;
    }
    buffer.append(chunk, static_cast<size_t>(count));
    return true;
}

bool write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t count = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (count <= 0) {
            return false;
        }
        bytes.remove_prefix(static_cast<size_t>(count));
    }
    return true;
}

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
    return text;
}

bool read_chunked(int fd, std::string& buffer, std::string& body) {
    for (;;) {
        size_t end = 0;
        while ((end = buffer.find("\r\n")) == std::string::npos) {
            if (!read_more(fd, buffer)) {
                return false;
            }
        }
        const size_t size = std::strtoull(buffer.c_str(), nullptr, 16);
        while (buffer.size() < end + 2 + size + 2) {
            if (!read_more(fd, buffer)) {
                return false;
            }
        }
        body.append(buffer, end + 2, size);
        buffer.erase(0, end + 2 + size + 2);
        if (size == 0) {
            return true;
        }
    }
}

}  // namespace

std::string ScriptServer::Request::header(const std::string& name) const {
    for (const auto& [key, value] : headers) {
        if (key == name) {
            return value;
        }
    }
    return {};
}

ScriptServer::ScriptServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    KUMOI_ASSERT(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
    KUMOI_ASSERT(::listen(listener_.get(), 64) == 0);
    KUMOI_ASSERT(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length) ==
                 0);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_loop(); });
}

ScriptServer::~ScriptServer() {
    stopping_ = true;
    ::shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    {
        const std::lock_guard lock(mutex_);
        for (const int fd : open_) {
            ::shutdown(fd, SHUT_RDWR);
        }
    }
    for (std::thread& thread : threads_) {
        thread.join();
    }
}

std::string ScriptServer::url() const {
    return "http://127.0.0.1:" + std::to_string(port_);
}

std::vector<ScriptServer::Request> ScriptServer::requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
}

void ScriptServer::accept_loop() {
    while (!stopping_) {
        const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
        if (fd < 0) {
            continue;
        }
        ++connection_count_;
        {
            const std::lock_guard lock(mutex_);
            open_.push_back(fd);
        }
        threads_.emplace_back([this, fd] {
            serve(fd);
            const std::lock_guard lock(mutex_);
            std::erase(open_, fd);
            ::close(fd);
        });
    }
}

void ScriptServer::serve(int fd) {
    std::string buffer;
    while (auto request = read_request(fd, buffer)) {
        Reply reply;
        {
            const std::lock_guard lock(mutex_);
            requests_.push_back(*request);
            reply = handler_(*request);
        }
        if (reply.never) {
            read_more(fd, buffer);  // until the client gives up or the server stops
            return;
        }
        if (reply.hang_up || !write_reply(fd, reply, request->method == "HEAD") ||
            reply.close_after) {
            return;
        }
    }
}

std::optional<ScriptServer::Request> ScriptServer::read_request(int fd, std::string& buffer) {
    size_t head_end = 0;
    while ((head_end = buffer.find("\r\n\r\n")) == std::string::npos) {
        if (!read_more(fd, buffer)) {
            return std::nullopt;
        }
    }
    Request request;
    const std::string head = buffer.substr(0, head_end);
    buffer.erase(0, head_end + 4);
    const size_t first_space = head.find(' ');
    request.method = head.substr(0, first_space);
    request.target =
        head.substr(first_space + 1, head.find(' ', first_space + 1) - first_space - 1);
    for (size_t line = head.find("\r\n"); line != std::string::npos;) {
        const size_t next = head.find("\r\n", line + 2);
        const std::string text = head.substr(line + 2, next - line - 2);
        if (const size_t colon = text.find(':'); colon != std::string::npos) {
            const size_t value = text.find_first_not_of(' ', colon + 1);
            request.headers.emplace_back(lower(text.substr(0, colon)),
                                         value == std::string::npos ? "" : text.substr(value));
        }
        line = next;
    }
    if (request.header("transfer-encoding") == "chunked") {
        return read_chunked(fd, buffer, request.body) ? std::optional(request) : std::nullopt;
    }
    const size_t length = std::strtoull(request.header("content-length").c_str(), nullptr, 10);
    while (buffer.size() < length) {
        if (!read_more(fd, buffer)) {
            return std::nullopt;
        }
    }
    request.body = buffer.substr(0, length);
    buffer.erase(0, length);
    return request;
}

bool ScriptServer::write_reply(int fd, const Reply& reply, bool head_only) {
    std::string head = "HTTP/1.1 " + std::to_string(reply.status) + " Scripted\r\n";
    for (const auto& [name, value] : reply.headers) {
        head += name + ": " + value + "\r\n";
    }
    const bool bodiless = reply.status == 204 || reply.status == 304;
    if (reply.chunked) {
        head += "Transfer-Encoding: chunked\r\n";
    } else if (!bodiless) {
        head += "Content-Length: " + std::to_string(reply.body.size()) + "\r\n";
    }
    std::string body = bodiless || head_only ? "" : reply.body;
    if (reply.chunked && !head_only) {
        char size[32];
        std::snprintf(size, sizeof(size), "%zx\r\n", reply.body.size());
        body = size + reply.body + "\r\n" + (reply.body.empty() ? "" : "0\r\n\r\n");
    }
    if (reply.cut_after) {
        body.resize(std::min(body.size(), *reply.cut_after));
        write_all(fd, head + "\r\n" + body);
        return false;
    }
    return write_all(fd, head + "\r\n" + body);
}

}  // namespace kumoi::test
