#include "migration/link/relay.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/digest.h"
#include "base/encoding.h"
#include "base/json.h"
#include "base/subprocess.h"
#include "base/unix_socket.h"
#include "migration/link/descriptor_message.h"

namespace kumoi::link {
namespace {

constexpr int64_t kReportGraceMs = 3'000;  // beyond the handshake's own time

struct SocketPair {
    UniqueFd ours;
    UniqueFd theirs;
};

Result<SocketPair> make_pair(int type) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends.data()) != 0) {
        return Error::from_errno(errno, "making a socket pair");
    }
    return SocketPair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// The kumoi-vmm's ends of the pairs, and all descriptors that go along with the order.
struct Ends {
    std::vector<UniqueFd> kept;
    std::vector<UniqueFd> given;
    std::vector<int> passed;
};

Result<Ends> make_ends(const std::vector<LinkStream>& streams) {
    Ends ends;
    for (const LinkStream& stream : streams) {
        SocketPair pair = TRY(make_pair(SOCK_STREAM));
        tune_stream(pair.ours.get(), 0);
        tune_stream(pair.theirs.get(), 0);
        ends.passed.push_back(stream.socket.get());
        ends.passed.push_back(pair.theirs.get());
        ends.kept.push_back(std::move(pair.ours));
        ends.given.push_back(std::move(pair.theirs));
    }
    return ends;
}

Result<Json> wait_for_report(int socket, int64_t timeout_ms) {
    const int64_t deadline = SystemClock().monotonic_ns() + timeout_ms * kNanosPerMilli;
    if (!TRY(wait_ready(socket, POLLIN, deadline))) {
        return Error::timeout("the relay of a migration is not ready after {} ms", timeout_ms);
    }
    const DescriptorMessage message = TRY(receive_message(socket));
    if (message.text.empty()) {
        return Error::unavailable("the relay of a migration ended while it started");
    }
    Json report = TRY(Json::parse(message.text));
    if (const std::string error = report.string_or("error"); !error.empty()) {
        return Error::unavailable("{}", error).with_hint(report.string_or("hint"));
    }
    return report;
}

// It makes a child of its own, which goes on alone, and ends.
Result<void> start_relay(const std::string& program, int order_socket) {
    DaemonOptions daemon;
    daemon.inherited_fds = {order_socket};
    const pid_t pid =
        TRY(spawn_daemon({program, "--order-fd", std::to_string(order_socket)}, daemon));
    ::waitpid(pid, nullptr, 0);
    return {};
}

std::string text_at(const Json& list, size_t index) {
    const Json& item = list.as_array()[index];
    return item.is_string() ? item.as_string() : "";
}

void make_blocking(int socket) {
    const int flags = ::fcntl(socket, F_GETFL);
    (void)::fcntl(socket, F_SETFL, flags & ~O_NONBLOCK);
}

}  // namespace

std::string RelayOrder::text() const {
    Json list = Json::array();
    for (const std::string& secret : secrets) {
        list.push_back(base64_encode(secret));
    }
    Json hosts = Json::array();
    for (const std::string& host : files.hosts) {
        hosts.push_back(host);
    }
    return Json::object({{"role", role == TlsRole::Server ? "server" : "client"},
                         {"certificates", encryption == Encryption::Certificates},
                         {"certificate", files.certificate},
                         {"key", files.key},
                         {"authority", files.authority},
                         {"hosts", std::move(hosts)},
                         {"kernel", kernel},
                         {"handshake_ms", handshake_ms},
                         {"secrets", std::move(list)}})
        .dump();
}

Result<RelayOrder> RelayOrder::parse(const std::string& text) {
    const Json json = TRY(Json::parse(text));
    RelayOrder order;
    order.role = json.string_or("role") == "server" ? TlsRole::Server : TlsRole::Client;
    order.encryption = json.bool_or("certificates") ? Encryption::Certificates : Encryption::Psk;
    order.files.certificate = json.string_or("certificate");
    order.files.key = json.string_or("key");
    order.files.authority = json.string_or("authority");
    const Json* hosts = json.find("hosts");
    for (size_t i = 0; hosts != nullptr && hosts->is_array() && i < hosts->size(); ++i) {
        order.files.hosts.push_back(text_at(*hosts, i));
    }
    order.kernel = json.bool_or("kernel", true);
    order.handshake_ms = json.integer_or("handshake_ms", order.handshake_ms);
    const Json* secrets = json.find("secrets");
    for (size_t i = 0; secrets != nullptr && secrets->is_array() && i < secrets->size(); ++i) {
        const auto secret = base64_decode(text_at(*secrets, i));
        if (!secret || secret->size() != kTlsSecretSize) {
            return Error::invalid("a relay's order has a secret that is none");
        }
        order.secrets.push_back(*secret);
    }
    return order;
}

Result<std::vector<UniqueFd>> secure_streams(std::vector<LinkStream> streams, TlsRole role,
                                             Encryption encryption, const RelayOptions& options) {
    std::vector<UniqueFd> plain;
    if (encryption == Encryption::None) {
        for (LinkStream& stream : streams) {
            make_blocking(stream.socket.get());
            plain.push_back(std::move(stream.socket));
        }
        return plain;
    }
    RelayOrder order{role, encryption, options.files, options.kernel, options.handshake_ms, {}};
    for (const LinkStream& stream : streams) {
        order.secrets.push_back(stream.tls_secret);
    }
    Ends ends = TRY(make_ends(streams));
    SocketPair orders = TRY(make_pair(SOCK_SEQPACKET));
    TRY(send_message(orders.ours.get(), order.text(), ends.passed));
    TRY(start_relay(options.program, orders.theirs.get()));
    orders.theirs.reset();
    ends.given.clear();
    const Json report =
        TRY_CONTEXT(wait_for_report(orders.ours.get(), options.handshake_ms + kReportGraceMs),
                    "encrypting the connections of a migration");
    const Json* kernel = report.find("kernel");
    for (size_t i = 0; i < streams.size(); ++i) {
        const bool in_kernel = kernel != nullptr && kernel->is_array() && i < kernel->size() &&
                               kernel->as_array()[i] == Json(true);
        if (in_kernel) {
            make_blocking(streams[i].socket.get());
        }
        plain.push_back(std::move(in_kernel ? streams[i].socket : ends.kept[i]));
    }
    return plain;
}

}  // namespace kumoi::link
