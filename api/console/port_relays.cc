#include "api/console/port_relays.h"

#include <atomic>
#include <list>

#include <sys/socket.h>

#include "api/console/socket_io.h"
#include "api/http/listen_socket.h"
#include "base/log.h"
#include "base/unix_socket.h"

namespace kumoi::api {
namespace {

constexpr int64_t kCleaningIntervalNs = 30 * kNanosPerSecond;

// Two connected sockets; bytes of one go to the other.
class Pair {
public:
    Pair(EventLoop& loop, UniqueFd client, UniqueFd guest)
        : loop_(loop), client_(std::move(client)), guest_(std::move(guest)) {}

    Result<void> start(std::function<void()> ended) {
        ended_ = std::move(ended);
        client_watch_ =
            TRY(loop_.watch(client_.get(), EventLoop::kReadable,
                            [this](uint32_t events) { turn(events, client_.get(), to_guest_); }));
        guest_watch_ = TRY(loop_.watch(guest_.get(), EventLoop::kReadable, [this](uint32_t events) {
            turn(events, guest_.get(), to_client_);
        }));
        return {};
    }

private:
    void turn(uint32_t events, int from, std::string& waiting) {
        const auto moved = [&]() -> Result<bool> {
            if ((events & EventLoop::kReadable) != 0) {
                const auto bytes = TRY(receive_some(from, "a console"));
                if (bytes && bytes->empty()) {
                    return false;
                }
                waiting += bytes.value_or("");
            }
            TRY(send_some(client_.get(), to_client_, "a console's viewer"));
            TRY(send_some(guest_.get(), to_guest_, "a guest's console"));
            TRY(client_watch_.set_events(relay_interest(to_client_, to_guest_)));
            TRY(guest_watch_.set_events(relay_interest(to_guest_, to_client_)));
            return true;
        }();
        if (!moved.ok() || !*moved) {
            client_watch_.reset();
            guest_watch_.reset();
            if (const auto ended = std::exchange(ended_, nullptr)) {
                ended();
            }
        }
    }

    EventLoop& loop_;
    UniqueFd client_;
    UniqueFd guest_;
    std::string to_client_;
    std::string to_guest_;
    std::function<void()> ended_;
    EventLoop::Watch client_watch_;
    EventLoop::Watch guest_watch_;
};

}  // namespace

class PortRelays::Relay {
public:
    Relay(EventLoop& loop, const Clock& clock, size_t sessions_max, UniqueFd listener)
        : port(local_port(listener.get())),
          loop_(loop),
          clock_(clock),
          sessions_max_(sessions_max),
          listener_(std::move(listener)) {
        touch();
    }

    const uint16_t port;

    // Where the next viewer is led to. From any thread, at once: a port that is listened at takes
    // viewers whether or not the loop has come to it.
    void lead_to(const std::string& socket) {
        touch();
        const std::lock_guard lock(mutex_);
        socket_ = socket;
    }
    void touch() { used_ns_ = clock_.monotonic_ns(); }

    // On the loop from here on.
    Result<void> listen() {
        watch_ = TRY(
            loop_.watch(listener_.get(), EventLoop::kReadable, [this](uint32_t) { accept_one(); }));
        return {};
    }
    bool is_idle(int64_t idle_ns) const {
        return sessions_.empty() && clock_.monotonic_ns() - used_ns_ > idle_ns;
    }

private:
    void accept_one() {
        auto client = accept_on(listener_.get());
        if (!client.ok() || !client->is_open() || sessions_.size() >= sessions_max_) {
            return;
        }
        auto guest = connect_unix(socket(), SOCK_NONBLOCK);
        if (!guest.ok()) {  // the server was stopped since
            log_info("console", "a guest's console does not answer",
                     {{"why", guest.error().text()}});
            return;
        }
        const auto place =
            sessions_.emplace(sessions_.end(), loop_, std::move(*client), std::move(*guest));
        const auto started = place->start([this, place] {
            loop_.post([this, place] {
                sessions_.erase(place);
                touch();
            });
        });
        if (!started.ok()) {
            sessions_.erase(place);
        }
    }

    std::string socket() const {
        const std::lock_guard lock(mutex_);
        return socket_;
    }

    EventLoop& loop_;
    const Clock& clock_;
    const size_t sessions_max_;
    UniqueFd listener_;
    EventLoop::Watch watch_;
    mutable std::mutex mutex_;  // guards socket_
    std::string socket_;
    std::list<Pair> sessions_;
    std::atomic<int64_t> used_ns_{0};
};

PortRelays::PortRelays(PortRelayOptions options, const Clock& clock)
    : options_(std::move(options)), clock_(clock), loop_(clock) {}

std::unique_ptr<PortRelays> PortRelays::start(PortRelayOptions options, const Clock& clock) {
    std::unique_ptr<PortRelays> relays(new PortRelays(std::move(options), clock));
    PortRelays* self = relays.get();
    self->loop_.post([self] { self->close_idle(); });
    self->thread_ = std::thread([self] { self->loop_.run(); });
    return relays;
}

PortRelays::~PortRelays() {
    loop_.stop();
    if (thread_.joinable()) {
        thread_.join();
    }
    relays_.clear();
}

Result<uint16_t> PortRelays::open(const std::string& key, const std::string& socket) {
    const std::lock_guard lock(mutex_);
    auto place = relays_.find(key);
    if (place == relays_.end()) {
        UniqueFd listener;
        for (uint32_t port = options_.first_port; port <= options_.last_port; ++port) {
            auto bound = listen_on(options_.address, static_cast<uint16_t>(port));
            if (bound.ok()) {
                listener = std::move(*bound);
                break;
            }
        }
        if (!listener.is_open()) {
            return Error::exhausted("no port of {} from {} to {} is free for a console",
                                    options_.address, options_.first_port, options_.last_port);
        }
        place = relays_
                    .emplace(key, std::make_unique<Relay>(loop_, clock_, options_.sessions_max,
                                                          std::move(listener)))
                    .first;
        Relay* relay = place->second.get();
        loop_.post([relay] {
            if (const auto listening = relay->listen(); !listening.ok()) {
                log_warn("console", listening.error().text());
            }
        });
    }
    place->second->lead_to(socket);
    return place->second->port;
}

std::optional<uint16_t> PortRelays::port_of(const std::string& key) const {
    const std::lock_guard lock(mutex_);
    const auto place = relays_.find(key);
    return place == relays_.end() ? std::nullopt : std::optional(place->second->port);
}

void PortRelays::close_idle() {
    {
        const std::lock_guard lock(mutex_);
        std::erase_if(
            relays_, [this](const auto& entry) { return entry.second->is_idle(options_.idle_ns); });
    }
    loop_.call_after(kCleaningIntervalNs, [this] { close_idle(); });
}

}  // namespace kumoi::api
