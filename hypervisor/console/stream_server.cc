#include "hypervisor/console/stream_server.h"

#include <array>
#include <cerrno>
#include <cstring>

#include <sys/socket.h>

#include "base/log.h"
#include "base/unix_socket.h"

namespace kumoi::hypervisor {

namespace {

constexpr size_t kReadSize = 16u << 10;
constexpr int kAcceptsPerTurn = 16;

}  // namespace

StreamServer::StreamServer(EventLoop& loop, FileSource& files, std::string path, Options options,
                           Handlers handlers)
    : loop_(loop),
      files_(files),
      path_(std::move(path)),
      options_(options),
      handlers_(std::move(handlers)) {}

Result<std::unique_ptr<StreamServer>> StreamServer::listen(EventLoop& loop, FileSource& files,
                                                           const std::string& path, Options options,
                                                           Handlers handlers) {
    UniqueFd listener = TRY(files.listen(path, options.mode));
    std::unique_ptr<StreamServer> server(
        new StreamServer(loop, files, path, options, std::move(handlers)));
    server->listener_ = std::move(listener);
    StreamServer* self = server.get();
    server->watch_ = TRY(loop.watch(server->listener_.get(), EventLoop::kReadable,
                                    [self](uint32_t) { self->accept_all(); }));
    return server;
}

StreamServer::~StreamServer() {
    watch_.reset();
    clients_.clear();
    if (listener_.is_open()) {
        files_.remove_socket(path_);
    }
}

void StreamServer::accept_all() {
    for (int i = 0; i < kAcceptsPerTurn; ++i) {
        UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!fd.is_open()) {
            return;  // EAGAIN, or no descriptors left: the next readiness tries again
        }
        if (clients_.size() >= options_.clients_max) {
            ++dropped_;
            continue;  // closing tells the client
        }
        const ClientId id = next_id_++;
        auto client = std::make_unique<Client>();
        auto watch = loop_.watch(fd.get(), EventLoop::kReadable,
                                 [this, id](uint32_t events) { serve(id, events); });
        if (!watch) {
            continue;
        }
        client->fd = std::move(fd);
        client->watch = std::move(watch).value();
        clients_.emplace(id, std::move(client));
        if (handlers_.connected) {
            handlers_.connected(id);
        }
    }
}

void StreamServer::serve(ClientId id, uint32_t events) {
    if ((events & EventLoop::kWritable) != 0) {
        const auto found = clients_.find(id);
        if (found != clients_.end() && !write_to(*found->second)) {
            close_client(id, true);
            return;
        }
    }
    if ((events & EventLoop::kReadable) != 0 && !read_from(id)) {
        close_client(id, true);
    }
}

bool StreamServer::read_from(ClientId id) {
    const auto found = clients_.find(id);
    if (found == clients_.end()) {
        return true;
    }
    if (options_.descriptors) {
        return read_with_descriptors(id, found->second->fd.get());
    }
    std::array<char, kReadSize> buffer;
    const ssize_t count = recv(found->second->fd.get(), buffer.data(), buffer.size(), 0);
    if (count > 0) {
        if (handlers_.received) {
            handlers_.received(id, std::string_view(buffer.data(), static_cast<size_t>(count)));
        }
        return true;
    }
    return count < 0 && (errno == EAGAIN || errno == EINTR);
}

// The kernel ends a read where the next descriptors begin, so these belong to these bytes.
bool StreamServer::read_with_descriptors(ClientId id, int fd) {
    constexpr size_t kDescriptorsMax = 253;  // SCM_MAX_FD: one message never has more
    std::array<char, kReadSize> buffer;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kDescriptorsMax)> control;
    iovec vector{buffer.data(), buffer.size()};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t count = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    if (count < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    std::vector<UniqueFd> descriptors = received_descriptors(message);
    if (count == 0 || (message.msg_flags & MSG_CTRUNC) != 0) {
        return false;  // some were lost (no room for more): what it asks would use the wrong ones
    }
    if (!descriptors.empty() && handlers_.descriptors) {
        handlers_.descriptors(id, std::move(descriptors));
    }
    if (has(id) && handlers_.received) {
        handlers_.received(id, std::string_view(buffer.data(), static_cast<size_t>(count)));
    }
    return true;
}

bool StreamServer::write_to(Client& client) {
    while (!client.output.empty()) {
        const ssize_t count =
            ::send(client.fd.get(), client.output.data(), client.output.size(), MSG_NOSIGNAL);
        if (count > 0) {
            client.output.erase(0, static_cast<size_t>(count));
        } else if (errno != EINTR) {
            if (errno != EAGAIN) {
                return false;
            }
            return client.watch.set_events(EventLoop::kReadable | EventLoop::kWritable).ok();
        }
    }
    return client.watch.set_events(EventLoop::kReadable).ok();
}

bool StreamServer::send(ClientId id, std::string_view bytes) {
    const auto found = clients_.find(id);
    if (found == clients_.end()) {
        return false;
    }
    Client& client = *found->second;
    if (bytes.size() > options_.output_max - std::min(options_.output_max, client.output.size())) {
        ++dropped_;
        close_client(id, true);
        return false;
    }
    const bool was_empty = client.output.empty();
    client.output += bytes;
    if (was_empty && !write_to(client)) {
        close_client(id, true);
        return false;
    }
    return true;
}

void StreamServer::flush_all() {
    for (auto& [id, client] : clients_) {
        write_to(*client);  // a client that fails here is found at its next event
    }
}

void StreamServer::drop(ClientId id) {
    close_client(id, false);
}

void StreamServer::close_client(ClientId id, bool tell) {
    if (clients_.erase(id) != 0 && tell && handlers_.closed) {
        handlers_.closed(id);
    }
}

}  // namespace kumoi::hypervisor
