#include "hypervisor/virtio/channel_socket.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"

namespace kumoi::hypervisor {

Result<std::unique_ptr<ChannelBackend>> ChannelSocket::open(FileSource& files,
                                                            const std::string& path) {
    std::unique_ptr<ChannelSocket> channel(new ChannelSocket(files, path));
    channel->listener_ = TRY_CONTEXT(files.listen(path), "channel");
    return Result<std::unique_ptr<ChannelBackend>>(std::move(channel));
}

ChannelSocket::~ChannelSocket() {
    if (listener_.is_open()) {
        files_.remove_socket(path_);
    }
}

Result<void> ChannelSocket::start(EventLoop& loop, Events events) {
    loop_ = &loop;
    events_ = std::move(events);
    if (client_.is_open()) {  // it waited through a reset of the guest
        watch_client();
    } else {
        watch_listener();
    }
    return {};
}

void ChannelSocket::stop() {
    listener_watch_.reset();
    client_watch_.reset();
    output_.clear();  // what a guest said before its reset
    input_enabled_ = false;
    events_ = {};
    loop_ = nullptr;
}

void ChannelSocket::watch_listener() {
    auto watch = loop_->watch(listener_.get(), EventLoop::kReadable,
                              [this](uint32_t /*events*/) { accept(); });
    if (!watch.ok()) {
        log_warn("virtio", "a channel takes no connections", {{"reason", watch.error().text()}});
        return;
    }
    listener_watch_ = std::move(watch).value();
}

// Of those that came and left before anybody looked, nothing is kept.
void ChannelSocket::accept() {
    client_ = UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!client_.is_open()) {
        return;
    }
    if (hung_up()) {
        client_.reset();
        return;
    }
    listener_watch_.reset();
    watch_client();
    events_.connection_changed();
}

void ChannelSocket::watch_client() {
    auto watch = loop_->watch(client_.get(), 0, [this](uint32_t events) { client_event(events); });
    if (!watch.ok()) {
        log_warn("virtio", "a channel lost its client", {{"reason", watch.error().text()}});
        client_.reset();
        watch_listener();
        return;
    }
    client_watch_ = std::move(watch).value();
    update_events();
}

void ChannelSocket::client_event(uint32_t events) {
    const bool readable = (events & EventLoop::kReadable) != 0;
    const bool had_room = has_room();
    if ((readable && hung_up()) || ((events & EventLoop::kWritable) != 0 && !flush())) {
        lose_client();
        events_.connection_changed();
        return;
    }
    update_events();
    if (!had_room && has_room()) {
        events_.output_ready();
    }
    if (readable && input_enabled_) {
        events_.input_ready();
    }
}

bool ChannelSocket::hung_up() const {
    pollfd state{client_.get(), 0, 0};
    return ::poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR)) != 0;
}

void ChannelSocket::lose_client() {
    client_watch_.reset();
    client_.reset();
    output_.clear();
    input_ended_ = false;
    watch_listener();
}

void ChannelSocket::update_events() {
    const bool wants_input = input_enabled_ && !input_ended_;
    const auto set = client_watch_.set_events((wants_input ? EventLoop::kReadable : 0) |
                                              (output_.empty() ? 0 : EventLoop::kWritable));
    if (!set.ok()) {
        log_warn("virtio", "a channel is not watched", {{"reason", set.error().text()}});
    }
}

void ChannelSocket::set_input_enabled(bool enabled) {
    if (enabled == input_enabled_) {
        return;
    }
    input_enabled_ = enabled;
    if (client_.is_open() && loop_ != nullptr) {
        update_events();
    }
}

// A client that says nothing more may still listen; one that has gone is found by its watch.
size_t ChannelSocket::read(std::span<std::byte> bytes) {
    if (!client_.is_open() || hung_up()) {
        return 0;
    }
    const ssize_t size = ::recv(client_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (size == 0) {
        input_ended_ = true;
        update_events();
    }
    return size > 0 ? static_cast<size_t>(size) : 0;
}

size_t ChannelSocket::write(std::span<const std::byte> bytes) {
    if (!client_.is_open()) {
        return bytes.size();
    }
    const size_t taken = std::min(bytes.size(), 2 * kOutputMax - output_.size());
    const bool was_empty = output_.empty();
    output_.append(reinterpret_cast<const char*>(bytes.data()), taken);
    if (was_empty && flush() && !output_.empty()) {
        update_events();
    }
    return taken;
}

bool ChannelSocket::flush() {
    while (!output_.empty()) {
        const ssize_t sent =
            ::send(client_.get(), output_.data(), output_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            output_.erase(0, static_cast<size_t>(sent));
        } else if (errno != EINTR) {
            return errno == EAGAIN;
        }
    }
    return true;
}

}  // namespace kumoi::hypervisor
