// kumoi host upgrade: asked of this host's kumoi-compute over its admin socket, guest by guest
// (api/admin_socket.h).
#include "api/cli/host_upgrade_command.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "api/cli/command.h"
#include "api/cli/exit_code.h"
#include "base/clock.h"
#include "base/unix_socket.h"

namespace kumoi::cli {
namespace {

constexpr int64_t kSendNs = 5 * kNanosPerSecond;
constexpr int64_t kGuestNs =
    300 * kNanosPerSecond;  // for one guest, its server's other work included
constexpr size_t kLineMax = 64u << 10;

const std::vector<Column> kColumns{
    {"SERVER", "server"}, {"OUTCOME", "outcome"}, {"STOP_MS", "stop_ms", true}, {"WHY", "reason"}};

struct Arguments {
    std::string server;
    bool dry_run = false;
};

// The next line; an error when the daemon has gone or is silent.
Result<Json> next_line(int socket, std::string& buffer) {
    const int64_t deadline = SystemClock().monotonic_ns() + kGuestNs;
    while (buffer.find('\n') == std::string::npos) {
        if (!TRY(wait_ready(socket, POLLIN, deadline))) {
            return Error::timeout("kumoi-compute says nothing for {} s",
                                  kGuestNs / kNanosPerSecond);
        }
        std::array<char, 4096> bytes;
        const ssize_t count = ::recv(socket, bytes.data(), bytes.size(), 0);
        if (count <= 0 || buffer.size() > kLineMax) {
            return Error::unavailable("kumoi-compute has ended in the middle")
                .with_hint("What it had begun is taken up when it starts again.");
        }
        buffer.append(bytes.data(), static_cast<size_t>(count));
    }
    const size_t end = buffer.find('\n');
    const std::string line = buffer.substr(0, end);
    buffer.erase(0, end + 1);
    return Json::parse(line);
}

Result<UniqueFd> connect_daemon(const Session& session) {
    auto socket = connect_unix(session.state_path() + "/admin.sock");
    if (socket.ok()) {
        return socket;
    }
    return Error(socket.error())
        .with_context("asking this host's kumoi-compute")
        .with_hint(
            "Run this as root on the host itself, while kumoi-compute runs there; "
            "--state-path says where its state folder is.");
}

Result<void> upgrade(Session& session, const Arguments& arguments) {
    const UniqueFd socket = TRY(connect_daemon(session));
    Json request = Json::object({{"method", "upgrade"}, {"dry_run", arguments.dry_run}});
    if (!arguments.server.empty()) {
        request.set("server", arguments.server);
    }
    if (!TRY(send_all(socket.get(), request.dump() + "\n",
                      SystemClock().monotonic_ns() + kSendNs))) {
        return Error::timeout("kumoi-compute does not read");
    }
    Json::Array records;
    std::string buffer;
    for (;;) {
        const Json line = TRY(next_line(socket.get(), buffer));
        if (line.bool_or("done", false)) {
            break;
        }
        if (line.contains("error")) {
            return Error::unavailable("{}", line.string_or("error"));
        }
        const std::string outcome = line.string_or("outcome");
        session.out.progress(fmt::format("{} {}", line.string_or("server"), outcome));
        if (outcome == "stayed" || outcome == "lost") {
            session.exit_code = kFailed;
        }
        records.push_back(line);
    }
    return session.out.list(kColumns, records);
}

}  // namespace

void add_host_upgrade_verb(CLI::App* noun, Session& session) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* verb =
        add_verb(noun, "upgrade", "Move this host's running guests to the installed kumoi-vmm.",
                 session, [&session, arguments] { return upgrade(session, *arguments); });
    verb->add_option("--server", arguments->server, "Only this one (its id).");
    verb->add_flag("--dry-run", arguments->dry_run, "Only show which would be.");
}

}  // namespace kumoi::cli
