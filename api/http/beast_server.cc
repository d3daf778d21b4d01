// BeastServer: Boost.Asio moves the bytes, connection.cc says what they mean, exactly as for the
// other server: one parser for both, so no request is understood in two ways. (Beast's own parser
// is not used; its WebSocket streams will take over sockets from here.) Streaming requests leave
// the event loop: a StreamSession runs them on a thread of the stream pool and hands the connection
// back afterwards.
//
// One Loop (io_context and thread) owns its sessions; everything but the stream threads runs there.
// Sessions are shared_ptr because Asio's completion handlers hold them. Asio's exceptions stop
// here.

#if defined(__SANITIZE_THREAD__)
#define BOOST_ASIO_DISABLE_FENCED_BLOCK  // fences are not understood by ThreadSanitizer
#endif

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_set>

#include "api/http/connection.h"
#include "api/http/dispatcher.h"
#include "api/http/listen_socket.h"
#include "api/http/server.h"
#include "api/http/stream_session.h"
#include "base/log.h"

namespace kumoi::api {
namespace {

namespace asio = boost::asio;
using Tcp = asio::ip::tcp;
using ErrorNumber = boost::system::error_code;

constexpr size_t kReadBytes = 64u << 10;
constexpr int kReadsPerEvent = 4;
constexpr int kAcceptsPerEvent = 64;
constexpr auto kTick = std::chrono::milliseconds(200);

class Session;

// What the loops of one server share.
struct Shared {
    Shared(ServerOptions server_options, Router server_router,
           ServerDependencies server_dependencies)
        : options(std::move(server_options)),
          router(std::move(server_router)),
          dependencies(server_dependencies),
          dispatcher(options, router, dependencies),
          streams("stream-" + options.name, options.stream_threads, 2 * options.stream_threads) {}

    const ServerOptions options;
    const Router router;
    const ServerDependencies dependencies;
    Dispatcher dispatcher;
    WorkerPool streams;
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

struct Loop {
    asio::io_context context{1};
    asio::steady_timer timer{context};
    std::unordered_set<std::shared_ptr<Session>> sessions;
    std::string buffer = std::string(kReadBytes, '\0');
    bool draining = false;
    bool ticking = false;
    std::thread thread;
};

class Session final : public std::enable_shared_from_this<Session> {
public:
    Session(Shared& shared, Loop& loop, UniqueFd fd);
    ~Session() { shared_.closed_one(); }

    void pump();
    void drain();
    void expire_if_due(int64_t now_ns);
    // Wakes a stream thread that waits for this client; the fd itself stays open until the end.
    void cut() { ::shutdown(socket_.native_handle(), SHUT_RDWR); }

private:
    void read_now();
    void write_now();
    void wait_for_input();
    void wait_for_output();
    void start(Connection::Next next);
    void start_stream(Connection::Next next);
    void run_stream(Request& request, ResponseContext context, Connection::Body body);
    void finish_stream(std::string leftover, StreamSession::End end);
    void deliver(Answer answer);

    Shared& shared_;
    Loop& loop_;
    Tcp::socket socket_;
    Connection connection_;
    bool waiting_for_input_ = false;
    bool waiting_for_output_ = false;
    bool with_stream_thread_ = false;
};

Session::Session(Shared& shared, Loop& loop, UniqueFd fd)
    : shared_(shared),
      loop_(loop),
      socket_(loop.context),
      connection_(shared.options, shared.router, shared.dependencies, peer_address_text(fd.get()),
                  local_address_text(fd.get())) {
    const bool v6 = shared.options.address.find(':') != std::string::npos;
    socket_.assign(v6 ? Tcp::v6() : Tcp::v4(), fd.release());
}

void Session::pump() {
    if (with_stream_thread_) {
        return;
    }
    write_now();
    if (auto next = connection_.next_request()) {
        if (next->stream) {
            start_stream(std::move(*next));
            return;
        }
        start(std::move(*next));
    }
    ErrorNumber ignored;
    if (connection_.wants_shutdown()) {
        socket_.shutdown(Tcp::socket::shutdown_send, ignored);
    }
    if (connection_.closed()) {
        socket_.close(ignored);  // cancels the waits, which hold the last references
        loop_.sessions.erase(shared_from_this());
        return;
    }
    if (connection_.wants_input()) {
        wait_for_input();
    }
    if (!connection_.output().empty()) {
        wait_for_output();
    }
}

void Session::wait_for_input() {
    if (std::exchange(waiting_for_input_, true)) {
        return;
    }
    socket_.async_wait(Tcp::socket::wait_read, [self = shared_from_this()](ErrorNumber error) {
        self->waiting_for_input_ = false;
        if (!error && !self->with_stream_thread_) {
            self->read_now();
            self->pump();
        }
    });
}

void Session::wait_for_output() {
    if (std::exchange(waiting_for_output_, true)) {
        return;
    }
    socket_.async_wait(Tcp::socket::wait_write, [self = shared_from_this()](ErrorNumber error) {
        self->waiting_for_output_ = false;
        if (!error) {
            self->pump();
        }
    });
}

void Session::read_now() {
    std::string& buffer = loop_.buffer;
    for (int count = 0; count < kReadsPerEvent && connection_.wants_input(); ++count) {
        const ssize_t size =
            ::recv(socket_.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (size > 0) {
            connection_.receive(std::string_view(buffer).substr(0, static_cast<size_t>(size)));
            if (static_cast<size_t>(size) < buffer.size()) {
                return;
            }
        } else if (size == 0) {
            connection_.receive_end();
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            connection_.abort();
        }
    }
}

void Session::write_now() {
    while (!connection_.closed() && !connection_.output().empty()) {
        const std::string_view output = connection_.output();
        const ssize_t size = ::send(socket_.native_handle(), output.data(), output.size(),
                                    MSG_NOSIGNAL | MSG_DONTWAIT);
        if (size >= 0) {
            connection_.sent(static_cast<size_t>(size));
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            connection_.abort();
        }
    }
}

void Session::deliver(Answer answer) {
    // Shared: a std::function and Asio's post may copy the handler.
    auto held = std::make_shared<Answer>(std::move(answer));
    asio::post(loop_.context, [self = shared_from_this(), held] {
        if (!self->connection_.closed()) {
            self->connection_.answer(std::move(*held));
            self->pump();
        }
    });
}

void Session::start(Connection::Next next) {
    shared_.dispatcher.submit(std::move(next), [self = shared_from_this()](Answer answer) {
        self->deliver(std::move(answer));
    });
}

void Session::start_stream(Connection::Next next) {
    // Shared: std::function wants copyable captures.
    auto request = std::make_shared<Request>(std::move(next.request));
    auto body = std::make_shared<Connection::Body>(connection_.take_body());
    with_stream_thread_ = true;
    const auto queued =
        shared_.streams.submit([self = shared_from_this(), request, body, context = next.context] {
            self->run_stream(*request, context, std::move(*body));
        });
    if (!queued.ok()) {
        with_stream_thread_ = false;
        ResponseContext context = next.context;
        context.keep_alive = false;  // its body is on the way and nobody will read it
        context.wall_ns = shared_.dependencies.clock.wall_ns();
        deliver(make_answer(shared_.dispatcher.busy_reply(request.get()), context));
    }
}

void Session::run_stream(Request& request, ResponseContext context, Connection::Body body) {
    StreamSession stream(socket_.native_handle(), std::move(body), shared_.options,
                         shared_.dependencies.clock);
    Reply reply = shared_.dispatcher.run(request, &stream);
    context.keep_alive = context.keep_alive && !shared_.dispatcher.draining();
    const StreamSession::End end = stream.send_reply(std::move(reply), context);
    asio::post(loop_.context, [self = shared_from_this(), leftover = stream.leftover(), end] {
        self->finish_stream(leftover, end);
    });
}

void Session::finish_stream(std::string leftover, StreamSession::End end) {
    with_stream_thread_ = false;
    if (end == StreamSession::End::Abort) {
        // A reset, not an orderly end: a body without length must not look complete.
        ErrorNumber ignored;
        socket_.set_option(asio::socket_base::linger(true, 0), ignored);
        connection_.abort();
    } else {
        connection_.resume(std::move(leftover), end == StreamSession::End::KeepAlive);
    }
    pump();
}

void Session::drain() {
    connection_.drain();
    pump();
}

void Session::expire_if_due(int64_t now_ns) {
    if (!with_stream_thread_ && connection_.deadline_ns() <= now_ns) {
        connection_.expire();
        pump();
    }
}

class BeastServer final : public HttpServer {
public:
    BeastServer(ServerOptions options, Router router, ServerDependencies dependencies)
        : shared_(std::move(options), std::move(router), dependencies) {}
    ~BeastServer() override { stop(); }

    Result<void> start() override;
    uint16_t port() const override { return port_; }
    Result<void> drain(int64_t timeout_ms) override;
    void stop() override;

private:
    void wait_for_connections();
    void accept_waiting();
    void turn_away(const UniqueFd& fd);
    void adopt(Loop& loop, UniqueFd fd);
    void schedule_tick(Loop& loop);
    void tick(Loop& loop);

    Shared shared_;
    std::vector<std::unique_ptr<Loop>> loops_;
    std::unique_ptr<Tcp::acceptor> acceptor_;  // on the first loop
    std::unique_ptr<asio::steady_timer> accept_retry_;
    size_t next_loop_ = 0;
    uint16_t port_ = 0;
    bool running_ = false;
};

Result<void> BeastServer::start() {
    KUMOI_ASSERT(!running_);
    ignore_broken_pipe_signal();
    UniqueFd listener = TRY(listen_on(shared_.options.address, shared_.options.port));
    port_ = local_port(listener.get());
    try {
        for (size_t index = 0; index < shared_.options.io_threads; ++index) {
            loops_.push_back(std::make_unique<Loop>());
        }
        const bool v6 = shared_.options.address.find(':') != std::string::npos;
        acceptor_ = std::make_unique<Tcp::acceptor>(loops_.front()->context);
        acceptor_->assign(v6 ? Tcp::v6() : Tcp::v4(), listener.release());
        accept_retry_ = std::make_unique<asio::steady_timer>(loops_.front()->context);
        wait_for_connections();
        for (const auto& loop : loops_) {
            loop->thread = std::thread([target = loop.get()] {
                const auto work = asio::make_work_guard(target->context);
                target->context.run();
            });
        }
    } catch (const std::exception& exception) {
        return Error::internal("The event loops do not start: {}", exception.what());
    }
    running_ = true;
    log_info(
        "http", "listening",
        {{"server", shared_.options.name}, {"address", shared_.options.address}, {"port", port_}});
    return {};
}

void BeastServer::wait_for_connections() {
    acceptor_->async_wait(Tcp::acceptor::wait_read, [this](ErrorNumber error) {
        if (!error) {
            accept_waiting();
        }
    });
}

void BeastServer::accept_waiting() {
    for (int count = 0; count < kAcceptsPerEvent; ++count) {
        Result<UniqueFd> accepted = accept_on(acceptor_->native_handle());
        if (!accepted.ok()) {
            log_warn("http", "accepting is paused", {{"reason", accepted.error().text()}});
            accept_retry_->expires_after(kTick);
            accept_retry_->async_wait([this](ErrorNumber error) {
                if (!error && acceptor_->is_open()) {
                    wait_for_connections();
                }
            });
            return;
        }
        if (!accepted->is_open()) {
            break;
        }
        if (shared_.open_count.load() >= shared_.options.connections_max) {
            turn_away(*accepted);
            continue;
        }
        ++shared_.open_count;
        shared_.dispatcher.count_connection(1);
        Loop& loop = *loops_[next_loop_++ % loops_.size()];
        // Shared: Asio may copy the handler.
        auto held = std::make_shared<UniqueFd>(std::move(*accepted));
        asio::post(loop.context, [this, &loop, held] { adopt(loop, std::move(*held)); });
    }
    wait_for_connections();
}

void BeastServer::turn_away(const UniqueFd& fd) {
    const ResponseContext context{.head_request = false,
                                  .version_minor = 1,
                                  .keep_alive = false,
                                  .request_id = {},
                                  .wall_ns = shared_.dependencies.clock.wall_ns()};
    const Answer answer = make_answer(shared_.dispatcher.busy_reply(nullptr), context);
    [[maybe_unused]] const auto put =
        ::send(fd.get(), answer.bytes.data(), answer.bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void BeastServer::adopt(Loop& loop, UniqueFd fd) {
    std::shared_ptr<Session> session;
    try {
        session = std::make_shared<Session>(shared_, loop, std::move(fd));
    } catch (const std::exception& exception) {
        log_error("http", "a connection can't be watched", {{"what", exception.what()}});
        shared_.closed_one();
        return;
    }
    loop.sessions.insert(session);
    if (loop.draining) {
        session->drain();
    } else {
        session->pump();
    }
    schedule_tick(loop);
}

void BeastServer::schedule_tick(Loop& loop) {
    if (std::exchange(loop.ticking, true)) {
        return;
    }
    loop.timer.expires_after(kTick);
    loop.timer.async_wait([this, &loop](ErrorNumber error) {
        loop.ticking = false;
        if (!error) {
            tick(loop);
        }
    });
}

void BeastServer::tick(Loop& loop) {
    const int64_t now_ns = shared_.dependencies.clock.monotonic_ns();
    const std::vector<std::shared_ptr<Session>> sessions(loop.sessions.begin(),
                                                         loop.sessions.end());
    for (const auto& session : sessions) {
        session->expire_if_due(now_ns);
    }
    if (!loop.sessions.empty()) {
        schedule_tick(loop);
    }
}

Result<void> BeastServer::drain(int64_t timeout_ms) {
    if (!running_) {
        return {};
    }
    shared_.dispatcher.drain();
    asio::post(loops_.front()->context, [this] {
        ErrorNumber ignored;
        acceptor_->close(ignored);
        for (const auto& loop : loops_) {
            asio::post(loop->context, [target = loop.get()] {
                target->draining = true;
                const std::vector<std::shared_ptr<Session>> sessions(target->sessions.begin(),
                                                                     target->sessions.end());
                for (const auto& session : sessions) {
                    session->drain();
                }
            });
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

void BeastServer::stop() {
    for (const auto& loop : loops_) {
        loop->context.stop();
    }
    for (const auto& loop : loops_) {
        if (loop->thread.joinable()) {
            loop->thread.join();
        }
        for (const auto& session : loop->sessions) {
            session->cut();
        }
    }
    shared_.streams.stop();
    shared_.streams.join();
    shared_.dispatcher.stop();
    acceptor_.reset();
    accept_retry_.reset();
    for (const auto& loop : loops_) {
        loop->sessions.clear();
    }
    loops_.clear();  // with the handlers still queued, and the sessions those hold
    running_ = false;
}

}  // namespace

Result<std::unique_ptr<HttpServer>> make_beast_server(ServerOptions options, Router router,
                                                      ServerDependencies dependencies) {
    return std::unique_ptr<HttpServer>(
        std::make_unique<BeastServer>(std::move(options), std::move(router), dependencies));
}

}  // namespace kumoi::api
