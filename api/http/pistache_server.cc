// PistacheServer: Pistache's reactor (its threads, its epoll) moves the bytes; what they mean is
// decided in connection.cc. Pistache 0.0.5's own listener, transport and HTTP parser are left out
// on purpose: the transport spins on a client that does not read and reads without bound, the
// listener spins when descriptors run out and cannot stop accepting alone, the parser loses
// repeated headers and pipelined requests (reference DEPS.md §1; docs/reference/http.md lists each
// with its test).
//
// One Loop per reactor thread owns its connections. Epoll tags are connection numbers, never
// descriptor numbers, so an answer or event for a closed connection finds nothing, also when its
// descriptor was reused. Pistache's exceptions stop in this file.

#include <pistache/os.h>
#include <pistache/reactor.h>
#undef TRY  // Pistache's own; ours follows

#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <unordered_map>

#include "api/http/connection.h"
#include "api/http/dispatcher.h"
#include "api/http/listen_socket.h"
#include "api/http/server.h"
#include "base/log.h"

namespace kumoi::api {
namespace {

namespace Aio = Pistache::Aio;
namespace Polling = Pistache::Polling;
using Interest = Pistache::Flags<Polling::NotifyOn>;

// Above every descriptor number: the reactor tags its own descriptors with their numbers.
constexpr uint64_t kTagWake = uint64_t{1} << 32;
constexpr uint64_t kTagTimer = kTagWake + 1;
constexpr uint64_t kTagListener = kTagWake + 2;
constexpr uint64_t kTagFirstConnection = kTagWake + 16;
constexpr size_t kReadBytes = 64u << 10;
constexpr int kReadsPerEvent = 4;
constexpr int kAcceptsPerEvent = 64;
constexpr int64_t kTickNs = 200 * kNanosPerMilli;

class Loop;

// What the loops of one server share.
struct Shared {
    Shared(ServerOptions server_options, Router server_router,
           ServerDependencies server_dependencies)
        : options(std::move(server_options)),
          router(std::move(server_router)),
          dependencies(server_dependencies),
          dispatcher(options, router, dependencies) {}

    const ServerOptions options;
    const Router router;
    const ServerDependencies dependencies;
    Dispatcher dispatcher;
    UniqueFd listener;  // owned by the first loop once it runs
    // Shared with the reactor, whose handlers they are.
    std::vector<std::shared_ptr<Loop>> loops;
    std::atomic<uint64_t> next_id{kTagFirstConnection};
    std::atomic<size_t> open_count{0};
    std::mutex mutex;  // for all_closed only
    std::condition_variable all_closed;

    void closed_one() {
        dispatcher.count_connection(-1);
        const std::lock_guard lock(mutex);
        --open_count;
        all_closed.notify_all();
    }
};

class Loop final : public Aio::Handler, public std::enable_shared_from_this<Loop> {
public:
    explicit Loop(Shared& shared) : shared_(shared) {}

    std::shared_ptr<Aio::Handler> clone() const override { return std::make_shared<Loop>(shared_); }
    void registerPoller(Polling::Epoll& poller) override;
    void onReady(const Aio::FdSet& events) override;

    bool ready() const { return wake_.is_open() && timer_.is_open(); }
    void post(std::function<void()> function);
    void listen();            // before the reactor runs
    void adopt(UniqueFd fd);  // the rest: on the loop's thread
    void stop_listening();
    void drain();
    void close_all() { clients_.clear(); }  // after the reactor's threads have ended

private:
    struct Client {
        Client(UniqueFd socket, Shared& shared)
            : fd(std::move(socket)),
              connection(shared.options, shared.router, shared.dependencies,
                         peer_address_text(fd.get()), local_address_text(fd.get())) {}
        UniqueFd fd;
        Connection connection;
        Interest interest{Polling::NotifyOn::None};
    };

    void handle(uint64_t tag, bool readable, bool hung_up);
    void run_posted();
    void accept_waiting();
    void turn_away(const UniqueFd& fd);
    void read_from(Client& client);
    bool write_to(Client& client);
    void pump(uint64_t id);
    void update_interest(uint64_t id, Client& client);
    void close(uint64_t id);
    void tick();
    void arm_timer(bool on);

    Shared& shared_;
    Polling::Epoll* poller_ = nullptr;
    UniqueFd wake_;
    UniqueFd timer_;
    bool listening_ = false;
    bool accept_paused_ = false;  // out of descriptors; the timer tries again
    bool draining_ = false;
    size_t next_loop_ = 0;
    std::unordered_map<uint64_t, std::unique_ptr<Client>> clients_;
    std::string buffer_ = std::string(kReadBytes, '\0');
    std::mutex mutex_;  // guards posted_
    std::vector<std::function<void()>> posted_;
};

void Loop::registerPoller(Polling::Epoll& poller) {
    poller_ = &poller;
    wake_.reset(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    timer_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    if (ready()) {
        poller.addFd(wake_.get(), Interest(Polling::NotifyOn::Read), Polling::Tag(kTagWake));
        poller.addFd(timer_.get(), Interest(Polling::NotifyOn::Read), Polling::Tag(kTagTimer));
    }
}

void Loop::onReady(const Aio::FdSet& events) {
    for (size_t index = 0; index < events.size(); ++index) {
        const auto& event = events.at(index);
        const uint64_t tag = event.getTag().value();
        try {
            // Pistache does not pass EPOLLERR on: an event without any flag is one.
            const bool hung_up = event.isHangup() || (!event.isReadable() && !event.isWritable());
            handle(tag, event.isReadable(), hung_up);
        } catch (const std::exception& exception) {
            log_error("http", "a connection failed", {{"what", exception.what()}});
            close(tag);
        }
    }
}

void Loop::handle(uint64_t tag, bool readable, bool hung_up) {
    uint64_t count = 0;
    if (tag == kTagWake) {
        [[maybe_unused]] const auto got = ::read(wake_.get(), &count, sizeof(count));
        run_posted();
    } else if (tag == kTagTimer) {
        [[maybe_unused]] const auto got = ::read(timer_.get(), &count, sizeof(count));
        tick();
    } else if (tag == kTagListener) {
        accept_waiting();
    } else if (auto found = clients_.find(tag); found != clients_.end()) {
        Client& client = *found->second;
        if (readable && client.connection.wants_input()) {
            read_from(client);
        } else if (hung_up) {
            client.connection.abort();  // both directions are gone: nobody hears an answer
        }
        pump(tag);
    }
}

void Loop::post(std::function<void()> function) {
    {
        const std::lock_guard lock(mutex_);
        posted_.push_back(std::move(function));
    }
    const uint64_t one = 1;
    [[maybe_unused]] const auto put = ::write(wake_.get(), &one, sizeof(one));
}

void Loop::run_posted() {
    std::vector<std::function<void()>> functions;
    {
        const std::lock_guard lock(mutex_);
        functions.swap(posted_);
    }
    for (const auto& function : functions) {
        function();
    }
}

void Loop::listen() {
    listening_ = true;
    poller_->addFd(shared_.listener.get(), Interest(Polling::NotifyOn::Read),
                   Polling::Tag(kTagListener));
}

void Loop::stop_listening() {
    if (listening_ && !accept_paused_) {
        poller_->removeFd(shared_.listener.get());
    }
    listening_ = false;
    shared_.listener.reset();
}

void Loop::accept_waiting() {
    for (int count = 0; listening_ && count < kAcceptsPerEvent; ++count) {
        Result<UniqueFd> accepted = accept_on(shared_.listener.get());
        if (!accepted.ok()) {
            log_warn("http", "accepting is paused", {{"reason", accepted.error().text()}});
            poller_->removeFd(shared_.listener.get());
            accept_paused_ = true;
            arm_timer(true);
            return;
        }
        if (!accepted->is_open()) {
            return;
        }
        if (shared_.open_count.load() >= shared_.options.connections_max) {
            turn_away(*accepted);
            continue;
        }
        ++shared_.open_count;
        shared_.dispatcher.count_connection(1);
        const auto& target = shared_.loops[next_loop_++ % shared_.loops.size()];
        if (target.get() == this) {
            adopt(std::move(*accepted));
        } else {
            // Shared: std::function wants a copyable capture.
            auto held = std::make_shared<UniqueFd>(std::move(*accepted));
            target->post([loop = target.get(), held] { loop->adopt(std::move(*held)); });
        }
    }
}

void Loop::turn_away(const UniqueFd& fd) {
    const ResponseContext context{.head_request = false,
                                  .version_minor = 1,
                                  .keep_alive = false,
                                  .request_id = {},
                                  .wall_ns = shared_.dependencies.clock.wall_ns()};
    const Answer answer = make_answer(shared_.dispatcher.busy_reply(nullptr), context);
    [[maybe_unused]] const auto put =
        ::send(fd.get(), answer.bytes.data(), answer.bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void Loop::adopt(UniqueFd fd) {
    const uint64_t id = shared_.next_id++;
    auto client = std::make_unique<Client>(std::move(fd), shared_);
    client->interest = Interest(Polling::NotifyOn::Read);
    try {
        poller_->addFd(client->fd.get(), client->interest, Polling::Tag(id));
    } catch (const std::exception& exception) {
        log_error("http", "a connection can't be watched", {{"what", exception.what()}});
        shared_.closed_one();
        return;
    }
    if (draining_) {
        client->connection.drain();
    }
    clients_.emplace(id, std::move(client));
    if (clients_.size() == 1) {
        arm_timer(true);
    }
    pump(id);
}

void Loop::read_from(Client& client) {
    for (int count = 0; count < kReadsPerEvent && client.connection.wants_input(); ++count) {
        const ssize_t size = ::recv(client.fd.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
        if (size > 0) {
            client.connection.receive(
                std::string_view(buffer_).substr(0, static_cast<size_t>(size)));
            if (static_cast<size_t>(size) < buffer_.size()) {
                return;
            }
        } else if (size == 0) {
            client.connection.receive_end();
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            client.connection.abort();
        }
    }
}

// True when all output is out. A full socket buffer just ends the turn: epoll says when to go on.
bool Loop::write_to(Client& client) {
    while (!client.connection.closed() && !client.connection.output().empty()) {
        const std::string_view output = client.connection.output();
        const ssize_t size =
            ::send(client.fd.get(), output.data(), output.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (size >= 0) {
            client.connection.sent(static_cast<size_t>(size));
        } else if (errno == EAGAIN) {
            return false;
        } else if (errno != EINTR) {
            client.connection.abort();
        }
    }
    return true;
}

void Loop::pump(uint64_t id) {
    const auto found = clients_.find(id);
    if (found == clients_.end()) {
        return;
    }
    Client& client = *found->second;
    write_to(client);
    if (auto next = client.connection.next_request()) {
        // The loop outlives the dispatcher's workers (see stop()); the client may be gone by then.
        shared_.dispatcher.submit(std::move(*next), [this, id](Answer answer) {
            // Shared: std::function wants a copyable capture.
            auto held = std::make_shared<Answer>(std::move(answer));
            post([this, id, held] {
                if (const auto client_now = clients_.find(id); client_now != clients_.end()) {
                    client_now->second->connection.answer(std::move(*held));
                    pump(id);
                }
            });
        });
    }
    if (client.connection.wants_shutdown()) {
        ::shutdown(client.fd.get(), SHUT_WR);
    }
    if (client.connection.closed()) {
        close(id);
        return;
    }
    update_interest(id, client);
}

void Loop::update_interest(uint64_t id, Client& client) {
    Interest wanted(Polling::NotifyOn::None);
    if (client.connection.wants_input()) {
        wanted.setFlag(Polling::NotifyOn::Read);
    }
    if (!client.connection.output().empty()) {
        wanted.setFlag(Polling::NotifyOn::Write);
    }
    if (wanted != client.interest) {
        client.interest = wanted;
        poller_->rearmFd(client.fd.get(), wanted, Polling::Tag(id));
    }
}

void Loop::close(uint64_t id) {
    const auto found = clients_.find(id);
    if (found == clients_.end()) {
        return;
    }
    poller_->removeFd(found->second->fd.get());
    clients_.erase(found);
    if (clients_.empty() && !accept_paused_) {
        arm_timer(false);
    }
    shared_.closed_one();
}

void Loop::tick() {
    if (accept_paused_ && listening_) {
        accept_paused_ = false;
        listen();
    }
    if (clients_.empty()) {
        arm_timer(false);
    }
    const int64_t now_ns = shared_.dependencies.clock.monotonic_ns();
    std::vector<uint64_t> expired;
    for (const auto& [id, client] : clients_) {
        if (client->connection.deadline_ns() <= now_ns) {
            expired.push_back(id);
        }
    }
    for (const uint64_t id : expired) {
        clients_.at(id)->connection.expire();
        pump(id);
    }
}

void Loop::drain() {
    draining_ = true;
    std::vector<uint64_t> ids;
    for (const auto& [id, client] : clients_) {
        client->connection.drain();
        ids.push_back(id);
    }
    for (const uint64_t id : ids) {
        pump(id);
    }
}

void Loop::arm_timer(bool on) {
    itimerspec spec{};
    if (on) {
        spec.it_interval.tv_nsec = kTickNs;
        spec.it_value.tv_nsec = kTickNs;
    }
    ::timerfd_settime(timer_.get(), 0, &spec, nullptr);
}

class PistacheServer final : public HttpServer {
public:
    PistacheServer(ServerOptions options, Router router, ServerDependencies dependencies)
        : shared_(std::move(options), std::move(router), dependencies) {}
    ~PistacheServer() override { stop(); }

    Result<void> start() override;
    uint16_t port() const override { return port_; }
    Result<void> drain(int64_t timeout_ms) override;
    void stop() override;

private:
    Result<void> start_reactor();

    Shared shared_;
    // Shared because Pistache hands itself out with shared_from_this().
    std::shared_ptr<Aio::Reactor> reactor_;
    uint16_t port_ = 0;
    bool running_ = false;
};

Result<void> PistacheServer::start() {
    KUMOI_ASSERT(!running_);
    ignore_broken_pipe_signal();
    shared_.listener = TRY(listen_on(shared_.options.address, shared_.options.port));
    port_ = local_port(shared_.listener.get());
    try {
        TRY(start_reactor());
    } catch (const std::exception& exception) {
        return Error::internal("Pistache's reactor does not start: {}", exception.what());
    }
    log_info(
        "http", "listening",
        {{"server", shared_.options.name}, {"address", shared_.options.address}, {"port", port_}});
    return {};
}

Result<void> PistacheServer::start_reactor() {
    reactor_ = Aio::Reactor::create();
    reactor_->init(Aio::AsyncContext(shared_.options.io_threads, shared_.options.name));
    const auto key = reactor_->addHandler(std::make_shared<Loop>(shared_));
    for (const auto& handler : reactor_->handlers(key)) {
        shared_.loops.push_back(std::static_pointer_cast<Loop>(handler));
        if (!shared_.loops.back()->ready()) {
            return Error::exhausted("No descriptors left for an event loop");
        }
    }
    shared_.loops.front()->listen();
    reactor_->run();
    running_ = true;
    return {};
}

Result<void> PistacheServer::drain(int64_t timeout_ms) {
    if (!running_) {
        return {};
    }
    shared_.dispatcher.drain();
    // First the listener, then every loop: what was accepted before is adopted by then.
    shared_.loops.front()->post([this] {
        shared_.loops.front()->stop_listening();
        for (const auto& loop : shared_.loops) {
            loop->post([target = loop.get()] { target->drain(); });
        }
    });
    std::unique_lock lock(shared_.mutex);
    const bool closed = shared_.all_closed.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                                                    [this] { return shared_.open_count == 0; });
    if (!closed) {
        return Error::timeout("{} connections of server {} are still open after {} ms",
                              shared_.open_count.load(), shared_.options.name, timeout_ms);
    }
    return {};
}

void PistacheServer::stop() {
    if (reactor_ == nullptr) {
        return;
    }
    reactor_->shutdown();
    reactor_.reset();  // joins its threads
    shared_.dispatcher.stop();
    for (const auto& loop : shared_.loops) {
        loop->close_all();
    }
    shared_.loops.clear();
    shared_.listener.reset();
    running_ = false;
}

}  // namespace

Result<std::unique_ptr<HttpServer>> make_pistache_server(ServerOptions options, Router router,
                                                         ServerDependencies dependencies) {
    if (router.has_streams()) {
        return Error::unsupported("Server {} has streaming routes, which need the Beast server",
                                  options.name);
    }
    return std::unique_ptr<HttpServer>(
        std::make_unique<PistacheServer>(std::move(options), std::move(router), dependencies));
}

}  // namespace kumoi::api
