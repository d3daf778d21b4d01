#include "api/admin_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/unix_socket.h"

namespace kumoi::api {
namespace {

constexpr size_t kRequestMax = 64u << 10;
constexpr int64_t kPatienceNs =
    10 * kNanosPerSecond;  // for a client's line, or until it reads ours
constexpr int kBacklog = 8;

int64_t deadline() {
    return SystemClock().monotonic_ns() + kPatienceNs;
}

Result<std::string> read_line(int client) {
    const int64_t until = deadline();
    std::string line;
    while (line.find('\n') == std::string::npos) {
        if (!TRY(wait_ready(client, POLLIN, until))) {
            return Error::timeout("no request came");
        }
        std::array<char, 4096> buffer;
        const ssize_t count = ::recv(client, buffer.data(), buffer.size(), 0);
        if (count <= 0) {
            return Error::unavailable("the client has gone");
        }
        line.append(buffer.data(), static_cast<size_t>(count));
        if (line.size() > kRequestMax) {
            return Error::too_large("a request of more than {} bytes", kRequestMax);
        }
    }
    return line.substr(0, line.find('\n'));
}

Result<void> write_line(int client, const Json& json) {
    if (!TRY(send_all(client, json.dump() + "\n", deadline()))) {
        return Error::timeout("the client does not read");
    }
    return {};
}

}  // namespace

Result<std::unique_ptr<AdminSocket>> AdminSocket::listen(const std::string& path, Node node) {
    const UnixAddress address = TRY(unix_address(path));
    TRY(remove_file(path));  // the state folder's lock says that it is nobody's
    UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!listener.is_open() ||
        ::bind(listener.get(), address.generic(), sizeof address.address) != 0 ||
        ::chmod(path.c_str(), 0600) != 0 || ::listen(listener.get(), kBacklog) != 0) {
        return Error::from_errno(errno, "listening on " + path);
    }
    UniqueFd wake = TRY(make_eventfd());
    return std::unique_ptr<AdminSocket>(
        new AdminSocket(path, std::move(listener), std::move(wake), std::move(node)));
}

AdminSocket::AdminSocket(std::string path, UniqueFd listener, UniqueFd wake, Node node)
    : path_(std::move(path)),
      listener_(std::move(listener)),
      wake_(std::move(wake)),
      node_(std::move(node)),
      thread_([this] { run(); }) {}

AdminSocket::~AdminSocket() {
    stopping_.store(true);
    const uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
    thread_.join();
    ::unlink(path_.c_str());
}

void AdminSocket::run() {
    while (!stopping_.load()) {
        std::array<pollfd, 2> watched = {pollfd{listener_.get(), POLLIN, 0},
                                         pollfd{wake_.get(), POLLIN, 0}};
        if (::poll(watched.data(), watched.size(), -1) < 0 || watched[0].revents == 0) {
            continue;
        }
        const UniqueFd client(
            ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (client.is_open()) {
            serve(client.get());
        }
    }
}

void AdminSocket::serve(int client) {
    auto done = [&]() -> Result<void> {
        const std::string line = TRY(read_line(client));
        const Json request = TRY(Json::parse(line, {kRequestMax, 8}));
        if (request.string_or("method") != "upgrade") {
            return Error::unsupported("there is no method \"{}\"", request.string_or("method"));
        }
        return upgrade(client, request);
    }();
    const Json last =
        done.ok() ? Json::object({{"done", true}}) : Json::object({{"error", done.error().text()}});
    if (auto told = write_line(client, last); !told.ok()) {
        log_info("admin", "a client was not told the end", {{"why", told.error().text()}});
    }
}

Result<void> AdminSocket::upgrade(int client, const Json& request) {
    const std::string only = request.string_or("server");
    const bool dry_run = request.bool_or("dry_run", false);
    const std::vector<std::string> servers =
        only.empty() ? TRY(node_.servers()) : std::vector<std::string>{only};
    for (const std::string& server : servers) {
        if (stopping_.load()) {
            return Error::unavailable("this daemon is ending");
        }
        const auto report = node_.upgrade(server, dry_run);
        if (!report.ok() && !only.empty()) {
            return report.error();
        }
        Json line = Json::object({{"server", server}});
        line.set("outcome", report.ok() ? std::string(to_string(report->kind)) : "stayed");
        line.set("reason", report.ok() ? report->reason : report.error().text());
        if (report.ok() && report->stop_ms >= 0) {
            line.set("stop_ms", report->stop_ms);
        }
        TRY(write_line(client, line));
    }
    return {};
}

}  // namespace kumoi::api
