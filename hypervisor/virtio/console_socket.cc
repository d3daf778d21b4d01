#include "hypervisor/virtio/console_socket.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"

namespace kumoi::hypervisor {

Result<std::unique_ptr<ConsoleBackend>> SocketConsole::open(FileSource& files,
                                                            const std::string& path) {
    std::unique_ptr<SocketConsole> console(new SocketConsole(files, path));
    console->listener_ = TRY_CONTEXT(files.listen(path), "virtio console");
    return Result<std::unique_ptr<ConsoleBackend>>(std::move(console));
}

SocketConsole::~SocketConsole() {
    if (listener_.is_open()) {
        files_.remove_socket(path_);
    }
}

Result<void> SocketConsole::start(EventLoop& loop, std::function<void()> input_ready) {
    loop_ = &loop;
    input_ready_ = std::move(input_ready);
    listener_watch_ = TRY(loop.watch(listener_.get(), EventLoop::kReadable,
                                     [this](uint32_t /*events*/) { accept(); }));
    return {};
}

void SocketConsole::stop() {
    listener_watch_.reset();
    for (Client& client : clients_) {
        client.watch.reset();
    }
    input_enabled_ = false;
    loop_ = nullptr;
}

void SocketConsole::accept() {
    UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd.is_open() || clients_.size() >= kClientsMax) {
        return;  // closing tells the client that there is no room
    }
    clients_.push_back({std::move(fd), {}});
    watch_client(clients_.back());
}

void SocketConsole::watch_client(Client& client) {
    client.watch.reset();
    if (!input_enabled_ || loop_ == nullptr) {
        return;
    }
    auto watch = loop_->watch(client.fd.get(), EventLoop::kReadable,
                              [this](uint32_t /*events*/) { input_ready_(); });
    if (watch.ok()) {
        client.watch = std::move(watch).value();
    } else {
        log_warn("console", "a client cannot type", {{"reason", watch.error().text()}});
    }
}

void SocketConsole::set_input_enabled(bool enabled) {
    if (enabled == input_enabled_) {
        return;
    }
    input_enabled_ = enabled;
    for (Client& client : clients_) {
        watch_client(client);
    }
}

size_t SocketConsole::write(std::span<const std::byte> bytes) {
    size_t most = clients_.empty() ? bytes.size() : 0;  // nobody listens: nothing is lost
    std::erase_if(clients_, [&](Client& client) {
        const ssize_t sent =
            ::send(client.fd.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        most = std::max(most, sent > 0 ? static_cast<size_t>(sent) : 0);
        return sent < 0 && errno != EAGAIN && errno != EINTR;
    });
    return most;
}

size_t SocketConsole::read(std::span<std::byte> bytes) {
    size_t got = 0;
    std::erase_if(clients_, [&](Client& client) {
        if (got > 0) {
            return false;
        }
        const ssize_t size = ::recv(client.fd.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
        got = size > 0 ? static_cast<size_t>(size) : 0;
        return size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR);
    });
    return got;
}

}  // namespace kumoi::hypervisor
