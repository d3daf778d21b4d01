#include "migration/link/door.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "migration/link/acceptor.h"

namespace kumoi::link {
namespace {

constexpr int kBacklog = 64;

// A stale socket file of an earlier run is in the way; ours alone is this path.
Result<UniqueFd> listen_unix(const std::string& path) {
    const UnixAddress address = TRY(unix_address(path));
    TRY(remove_file(path));
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.is_open() ||
        ::bind(socket.get(), address.generic(), sizeof(address.address)) != 0 ||
        ::chmod(path.c_str(), 0600) != 0 || ::listen(socket.get(), kBacklog) != 0) {
        return Error::from_errno(errno, "listening on " + path);
    }
    return socket;
}

bool is_stream(const Introduction& introduction) {
    return introduction.purpose == Purpose::Stream;
}

}  // namespace

Result<std::unique_ptr<MigrationDoor>> MigrationDoor::open(DoorOptions options, Random& random) {
    const bool tcp = options.unix_path.empty();
    UniqueFd listener = TRY(tcp ? listen_tcp(options.range) : listen_unix(options.unix_path));
    const uint16_t port = tcp ? TRY(local_port(listener.get())) : uint16_t{0};
    UniqueFd stop = TRY(make_eventfd());
    return std::unique_ptr<MigrationDoor>(
        new MigrationDoor(std::move(options), random, std::move(listener), port, std::move(stop)));
}

MigrationDoor::MigrationDoor(DoorOptions options, Random& random, UniqueFd listener, uint16_t port,
                             UniqueFd stop)
    : options_(std::move(options)),
      random_(random),
      listener_(std::move(listener)),
      port_(port),
      stop_(std::move(stop)),
      acceptor_([this] { accept_all(); }) {}

MigrationDoor::~MigrationDoor() {
    const uint64_t one = 1;
    (void)!::write(stop_.get(), &one, sizeof(one));
    acceptor_.join();
    {
        const std::lock_guard lock(mutex_);
        for (const Connection& connection : connections_) {
            (void)::shutdown(connection.socket, SHUT_RDWR);
        }
    }
    for (Connection& connection : connections_) {
        connection.thread.join();
    }
}

void MigrationDoor::expect(const Uuid& id, Expectation expectation) {
    const std::lock_guard lock(mutex_);
    expected_[id.bytes()].what = std::make_shared<const Expectation>(std::move(expectation));
}

void MigrationDoor::forget(const Uuid& id) {
    std::unique_lock lock(mutex_);
    const auto idle = [&] {
        const auto found = expected_.find(id.bytes());
        return found == expected_.end() || found->second.running == 0;
    };
    if (const auto found = expected_.find(id.bytes()); found != expected_.end()) {
        found->second.what = nullptr;  // nobody is let in any more
    }
    idle_.wait(lock, idle);
    expected_.erase(id.bytes());
}

size_t MigrationDoor::connection_count() const {
    const std::lock_guard lock(mutex_);
    return static_cast<size_t>(
        std::ranges::count_if(connections_, [](const Connection& one) { return !one.ended; }));
}

void MigrationDoor::accept_all() {
    accept_until(listener_, stop_, SOCK_NONBLOCK, [this](UniqueFd socket) {
        join_ended(connections_, mutex_);
        if (socket.is_open()) {
            take(std::move(socket));
        }
    });
}

// Beyond the limits connections are closed at once: an honest peer tries again.
void MigrationDoor::take(UniqueFd socket) {
    const std::string peer = peer_address(socket.get());
    const std::lock_guard lock(mutex_);
    const auto same =
        static_cast<size_t>(std::ranges::count(connections_, peer, &Connection::peer));
    if (expected_.empty() || connections_.size() >= options_.connections_max ||
        same >= options_.per_peer_max) {
        return;
    }
    Connection& connection = connections_.emplace_back();
    connection.peer = peer;
    connection.socket = socket.get();
    connection.thread = std::thread(
        [this, &connection, fd = socket.release()] { serve(UniqueFd(fd), connection); });
}

void MigrationDoor::serve(UniqueFd socket, Connection& connection) {
    const auto admitted = admit(std::move(socket), connection);
    if (!admitted.ok()) {
        log_info("migration", "a connection was turned away",
                 {{"peer", connection.peer}, {"why", admitted.error().message}});
    }
    const std::lock_guard lock(mutex_);
    connection.ended = true;
}

Result<void> MigrationDoor::admit(UniqueFd socket, Connection& connection) {
    const int64_t deadline = SystemClock().monotonic_ns() + options_.preamble_ms * kNanosPerMilli;
    tune_stream(socket.get(), options_.silence_ms);
    auto served = receive_preamble(
        socket.get(), options_.encryption, random_, [this](const Id& id) { return key_of(id); },
        [this](const Introduction& introduction) { return is_wanted(introduction); }, deadline);
    {
        const std::lock_guard lock(mutex_);
        connection.socket = -1;  // from here on it is another's, or closed
    }
    const ServedPreamble preamble = TRY(std::move(served));
    const Introduction& introduction = preamble.admission.introduction;
    Result<void> answered;
    if (is_stream(introduction)) {
        auto arrival = gather(preamble.admission, std::move(socket), connection.peer);
        if (arrival) {
            call(introduction.id,
                 [&](const Expectation& expectation) { expectation.arrived(std::move(*arrival)); });
        }
    } else {
        const std::string asked =
            TRY(receive_text(socket.get(), preamble.transcript, Speaker::Caller, deadline));
        call(introduction.id, [&](const Expectation& expectation) {
            const std::string text = expectation.answer ? expectation.answer(asked) : "";
            // What has to be done for an answer may take its time.
            answered =
                send_text(socket.get(), preamble.transcript, Speaker::Callee, text,
                          SystemClock().monotonic_ns() + options_.preamble_ms * kNanosPerMilli);
        });
    }
    return answered;
}

std::optional<std::string> MigrationDoor::key_of(const Id& id) const {
    const std::lock_guard lock(mutex_);
    const auto found = expected_.find(id);
    return found != expected_.end() && found->second.what
               ? std::optional<std::string>(found->second.what->key)
               : std::nullopt;
}

// A stream is: of a round that is not older than the newest, once, and as many as agreed.
bool MigrationDoor::is_wanted(const Introduction& introduction) const {
    const std::lock_guard lock(mutex_);
    const auto found = expected_.find(introduction.id);
    if (found == expected_.end() || !found->second.what) {
        return false;
    }
    const Expected& one = found->second;
    if (!is_stream(introduction)) {
        return true;
    }
    if (introduction.count > one.what->streams_max || introduction.round < one.round) {
        return false;
    }
    return introduction.round > one.round || one.streams.empty() ||
           (!one.complete && one.streams.size() == introduction.count &&
            !one.streams[introduction.index].socket.is_open());
}

std::optional<Arrival> MigrationDoor::gather(const Admission& admission, UniqueFd socket,
                                             const std::string& peer) {
    const Introduction& introduction = admission.introduction;
    const std::lock_guard lock(mutex_);
    const auto found = expected_.find(introduction.id);
    if (found == expected_.end() || !found->second.what ||
        introduction.round < found->second.round) {
        return std::nullopt;
    }
    Expected& one = found->second;
    if (introduction.round > one.round || one.streams.empty()) {
        one.round = introduction.round;
        one.complete = false;
        one.come = 0;
        one.streams.clear();
        one.streams.resize(introduction.count);
    }
    if (one.complete || one.streams.size() != introduction.count ||
        one.streams[introduction.index].socket.is_open()) {
        return std::nullopt;
    }
    one.streams[introduction.index] = {std::move(socket), admission.tls_secret};
    one.peer = peer;
    if (++one.come < one.streams.size()) {
        return std::nullopt;
    }
    one.complete = true;
    std::vector<LinkStream> streams(one.streams.size());
    streams.swap(one.streams);
    return Arrival{one.round, one.peer, std::move(streams)};
}

void MigrationDoor::call(const Id& id, const std::function<void(const Expectation&)>& function) {
    std::shared_ptr<const Expectation> what;
    {
        const std::lock_guard lock(mutex_);
        const auto found = expected_.find(id);
        if (found == expected_.end() || !found->second.what) {
            return;
        }
        what = found->second.what;
        ++found->second.running;
    }
    function(*what);
    const std::lock_guard lock(mutex_);
    --expected_[id].running;
    idle_.notify_all();
}

}  // namespace kumoi::link
