#include "hypervisor/display/vnc_server.h"

#include <cerrno>
#include <optional>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/websocket.h"
#include "hypervisor/display/rfb_session.h"
#include "hypervisor/virtio/io_thread.h"

namespace kumoi::hypervisor {

namespace {

constexpr size_t kReadSize = 16u << 10;
constexpr int kAcceptsPerTurn = 8;
constexpr size_t kUnsentMax = 64u << 10;  // with more than this waiting, no new picture

}  // namespace

// One connection: its socket, the WebSocket around it if it is one, and the RFB session inside.
class VncServer::Viewer {
public:
    Viewer(UniqueFd fd, Kind kind, const std::string& name, const Screen& screen, InputHub& input)
        : fd_(std::move(fd)), session_(name, screen, input) {
        if (kind == Kind::WebSocket) {
            web_.emplace(std::vector<std::string>{"binary"});
        }
    }

    // False at the end of the connection.
    Result<bool> receive(Counter& received);
    // Wraps what the session has to say and writes what the socket takes.
    Result<void> send(Counter& sent);
    bool may_draw() const { return output_.size() < kUnsentMax; }

    UniqueFd fd_;
    EventLoop::Watch watch_;
    RfbSession session_;
    bool was_established_ = false;

private:
    std::optional<WebSocketStream> web_;
    std::string output_;
};

Result<bool> VncServer::Viewer::receive(Counter& received) {
    std::array<char, kReadSize> buffer;
    const ssize_t size = read(fd_.get(), buffer.data(), buffer.size());
    if (size == 0) {
        return false;
    }
    if (size < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return true;
        }
        return Error::from_errno(errno, "reading from a viewer");
    }
    received.increment(static_cast<uint64_t>(size));
    const std::string_view bytes(buffer.data(), static_cast<size_t>(size));
    if (!web_) {
        TRY(session_.receive(bytes));
        return true;
    }
    TRY(session_.receive(TRY(web_->receive(bytes))));
    return !web_->closed();
}

Result<void> VncServer::Viewer::send(Counter& sent) {
    if (!web_) {
        output_ += session_.take_output();
    } else {
        output_ += web_->take_output();
        if (web_->open() && session_.output_size() != 0) {
            output_ += WebSocketStream::frame(session_.take_output());
        }
    }
    while (!output_.empty()) {
        const ssize_t size = ::send(fd_.get(), output_.data(), output_.size(), MSG_NOSIGNAL);
        if (size < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno != EAGAIN) {
                return Error::from_errno(errno, "writing to a viewer");
            }
            break;
        }
        sent.increment(static_cast<uint64_t>(size));
        output_.erase(0, static_cast<size_t>(size));
    }
    return watch_.set_events(EventLoop::kReadable | (output_.empty() ? 0 : EventLoop::kWritable));
}

VncServer::VncServer(Options options, const DisplaySource& source, InputHub& input)
    : options_(std::move(options)), input_(input), screen_(source) {}

Result<std::unique_ptr<VncServer>> VncServer::create(Options options, const DisplaySource& source,
                                                     InputHub& input) {
    std::unique_ptr<VncServer> server(new VncServer(std::move(options), source, input));
    server->thread_ = std::make_unique<IoThread>("vnc");
    return server;
}

VncServer::~VncServer() {
    if (thread_) {
        thread_->call([this] { stop(); });
    }
}

void VncServer::stop() {
    if (frame_scheduled_) {
        thread_->loop().cancel(frame_timer_);
    }
    listeners_.clear();
    viewers_.clear();
    input_.release_all();
}

Result<void> VncServer::listen(UniqueFd socket, Kind kind) {
    const int yes = 1;  // viewers' sockets inherit it; fails on unix sockets, which need it not
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    Result<void> outcome;
    thread_->call([&] {
        auto listener = std::make_unique<Listener>();
        listener->fd = std::move(socket);
        listener->kind = kind;
        auto watch = thread_->loop().watch(
            listener->fd.get(), EventLoop::kReadable,
            [this, fd = listener->fd.get(), kind](uint32_t) { accept_all(fd, kind); });
        if (!watch) {
            outcome = watch.error();
            return;
        }
        listener->watch = std::move(*watch);
        listeners_.push_back(std::move(listener));
    });
    return outcome;
}

void VncServer::accept_all(int listener, Kind kind) {
    for (int i = 0; i < kAcceptsPerTurn; ++i) {
        UniqueFd fd(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!fd.is_open()) {
            return;
        }
        if (viewers_.size() >= options_.viewers_max) {
            if (reports_.admit()) {
                log_warn("vnc", "a viewer was turned away",
                         {{"viewers_max", options_.viewers_max}});
            }
            continue;
        }
        if (viewers_.empty()) {
            screen_.refresh();
        }
        const uint64_t id = next_id_++;
        auto viewer = std::make_unique<Viewer>(std::move(fd), kind, options_.name, screen_, input_);
        auto watch = thread_->loop().watch(viewer->fd_.get(), EventLoop::kReadable,
                                           [this, id](uint32_t events) { serve(id, events); });
        if (!watch) {
            if (reports_.admit()) {
                log_warn("vnc", "a viewer could not be served", {{"error", watch.error().text()}});
            }
            continue;
        }
        viewer->watch_ = std::move(*watch);
        viewers_total_.increment();
        Viewer& here = *viewer;
        viewers_.emplace(id, std::move(viewer));
        viewer_count_ = viewers_.size();
        if (auto sent = here.send(sent_bytes_); !sent) {  // the greeting
            drop(id, sent.error().text());
        }
    }
}

void VncServer::serve(uint64_t id, uint32_t events) {
    const auto place = viewers_.find(id);
    if (place == viewers_.end()) {
        return;
    }
    Viewer& viewer = *place->second;
    Result<bool> going = true;
    if ((events & EventLoop::kReadable) != 0) {
        going = viewer.receive(received_bytes_);
    }
    const Result<void> sent = viewer.send(sent_bytes_);
    if (!going || !*going || !sent) {
        drop(id, !going ? going.error().text() : !sent ? sent.error().text() : "");
        return;
    }
    if (viewer.session_.established() && !std::exchange(viewer.was_established_, true) &&
        !viewer.session_.shared()) {
        drop_others(id);
    }
    if (viewer.session_.wants_update()) {
        schedule_frame(Pace::Now);
    }
}

void VncServer::drop(uint64_t id, const std::string& reason) {
    if (!reason.empty()) {
        if (const auto unreported = reports_.admit()) {
            log_info("vnc", "a viewer was dropped",
                     {{"reason", reason}, {"unreported", *unreported}});
        }
    }
    viewers_.erase(id);
    viewer_count_ = viewers_.size();
    if (viewers_.empty()) {
        screen_.forget();
        input_.release_all();
    }
}

void VncServer::drop_others(uint64_t id) {
    std::erase_if(viewers_, [id](const auto& entry) { return entry.first != id; });
    viewer_count_ = viewers_.size();
}

// At most one look each frame_ns. While the picture stands still looks are rarer, until a viewer
// says something: then the answer to its key should not wait.
void VncServer::schedule_frame(Pace pace) {
    if (frame_scheduled_) {
        if (pace == Pace::Still || !still_) {
            return;
        }
        thread_->loop().cancel(frame_timer_);
        pace = Pace::Moving;
    }
    frame_scheduled_ = true;
    still_ = pace == Pace::Still;
    const int64_t delay = pace == Pace::Still    ? options_.still_ns
                          : pace == Pace::Moving ? options_.frame_ns
                                                 : 0;
    frame_timer_ = thread_->loop().call_after(delay, [this] {
        frame_scheduled_ = false;
        frame();
    });
}

// One look at the picture for all viewers; again while any of them waits for something new.
void VncServer::frame() {
    bool wanted = false;
    for (const auto& [id, viewer] : viewers_) {
        wanted = wanted || viewer->session_.wants_update();
    }
    if (!wanted) {
        return;
    }
    const Screen::Change change = screen_.refresh();
    const bool news = change.resized || !change.tiles.empty();
    frames_.increment(news ? 1 : 0);
    std::vector<std::pair<uint64_t, std::string>> failed;
    for (const auto& [id, viewer] : viewers_) {
        if (news) {
            viewer->session_.screen_changed(change);
        }
        if (viewer->may_draw()) {
            viewer->session_.update();
        }
        if (auto sent = viewer->send(sent_bytes_); !sent) {
            failed.emplace_back(id, sent.error().text());
        }
    }
    for (const auto& [id, reason] : failed) {
        drop(id, reason);
    }
    schedule_frame(news ? Pace::Moving : Pace::Still);
}

Json VncServer::statistics() const {
    return Json::object({{"viewers", viewer_count_.load()},
                         {"viewers_total", viewers_total_.value()},
                         {"sent_bytes", sent_bytes_.value()},
                         {"received_bytes", received_bytes_.value()},
                         {"changed_frames", frames_.value()}});
}

}  // namespace kumoi::hypervisor
