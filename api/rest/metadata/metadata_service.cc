#include "api/rest/metadata/metadata_service.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "api/http/listen_socket.h"
#include "base/log.h"

namespace kumoi::api {
namespace {

constexpr size_t kWorkerCount = 2;
constexpr size_t kQueueLengthMax = 128;
constexpr int kBacklog = 64;
constexpr size_t kReadSize = 16 * 1024;
constexpr size_t kAllowancesMax = 4096;  // guests remembered; then idle ones are forgotten
constexpr int64_t kSweepNs = kNanosPerSecond;

ServerOptions server_options(const MetadataServiceOptions& options) {
    ServerOptions server;
    server.name = "metadata";
    server.address = options.address;
    server.port = options.port;
    server.connections_max = options.connections_max;
    server.header_bytes_max = 8 * 1024;
    server.header_count_max = 64;
    server.body_bytes_max = 16 * 1024;
    server.header_timeout_ms = 5'000;
    server.body_timeout_ms = 5'000;
    server.idle_timeout_ms = 15'000;
    server.write_timeout_ms = 15'000;
    return server;
}

// Bound to the bridge: only packets that came in through it reach this socket, and answers leave
// through it whatever the host's routes say.
Result<UniqueFd> listen_on_device(const std::string& device, const std::string& address,
                                  uint16_t port) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const int on = 1;
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    if (!fd.is_open() || ::inet_pton(AF_INET, address.c_str(), &where.sin_addr) != 1) {
        return Error::from_errno(errno, "making the metadata socket");
    }
    const std::string what = fmt::format("listening on {}:{} of {}", address, port, device);
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        ::setsockopt(fd.get(), IPPROTO_IP, IP_FREEBIND, &on, sizeof(on)) != 0 ||
        ::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, device.c_str(),
                     static_cast<socklen_t>(device.size())) != 0 ||
        ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&where), sizeof(where)) != 0 ||
        ::listen(fd.get(), kBacklog) != 0) {
        const int number = errno;
        return Error::from_errno(number, what)
            .with_hint(number == EADDRINUSE
                           ? "Another program listens on port 80 of every address of this host; "
                             "give it an address of its own"
                           : "");
    }
    return fd;
}

std::string address_of(const std::string& peer) {
    return peer.substr(0, peer.rfind(':'));
}

}  // namespace

Result<std::unique_ptr<MetadataService>> MetadataService::create(
    const MetadataDependencies& dependencies, MetadataServiceOptions options) {
    ignore_broken_pipe_signal();
    return std::unique_ptr<MetadataService>(new MetadataService(dependencies, std::move(options)));
}

MetadataService::MetadataService(const MetadataDependencies& dependencies,
                                 MetadataServiceOptions options)
    : dependencies_(dependencies),
      options_(std::move(options)),
      server_options_(server_options(options_)),
      server_dependencies_{dependencies.clock, dependencies.random, dependencies.metrics},
      router_(make_metadata_router(dependencies, options_.content)),
      loop_(dependencies.clock),
      workers_("metadata", kWorkerCount, kQueueLengthMax) {
    loop_.call_after(kSweepNs, [this] { sweep(); });
    thread_ = std::thread([this] { loop_.run(); });
}

MetadataService::~MetadataService() {
    workers_.stop();
    workers_.join();
    loop_.stop();
    thread_.join();
    // Watches go before the loop they belong to.
    clients_.clear();
    listeners_.clear();
}

void MetadataService::bridge_up(const std::string& network_id, const std::string& bridge) {
    loop_.post([this, network_id, bridge] {
        if (const auto outcome = listen(network_id, bridge); !outcome.ok()) {
            log_error("metadata", "guests of a network get no metadata",
                      {{"network", network_id}, {"error", outcome.error().text()}});
        }
    });
}

void MetadataService::bridge_down(const std::string& network_id) {
    loop_.post([this, network_id] { listeners_.erase(network_id); });
}

Result<void> MetadataService::listen(const std::string& network_id, const std::string& bridge) {
    const unsigned index = if_nametoindex(bridge.c_str());
    const auto present = listeners_.find(network_id);
    if (present != listeners_.end() && present->second.link_index == index) {
        return {};
    }
    listeners_.erase(network_id);
    Listener listener;
    listener.fd = TRY(listen_on_device(bridge, options_.address, options_.port));
    listener.link_index = index;
    listener.watch = TRY(loop_.watch(listener.fd.get(), EventLoop::kReadable,
                                     [this, network_id](uint32_t) { accept(network_id); }));
    listeners_[network_id] = std::move(listener);
    return {};
}

void MetadataService::accept(const std::string& network_id) {
    const auto listener = listeners_.find(network_id);
    if (listener == listeners_.end()) {
        return;
    }
    auto fd = accept_on(listener->second.fd.get());
    if (!fd.ok()) {
        log_warn("metadata", "a connection waits", {{"error", fd.error().text()}});
        return;
    }
    if (fd->is_open()) {
        add_client(network_id, std::move(*fd));
    }
}

void MetadataService::add_client(const std::string& network_id, UniqueFd fd) {
    const std::string peer_text = peer_address_text(fd.get());
    Client client;
    client.peer = {network_id, address_of(peer_text)};
    Allowance& allowance = allowances_[key_of(client.peer)];
    if (clients_.size() >= options_.connections_max ||
        allowance.connections >= options_.connections_per_guest_max) {
        return;  // closed: a guest with that many connections gets no more
    }
    const uint64_t id = next_client_++;
    client.connection = std::make_unique<Connection>(server_options_, router_, server_dependencies_,
                                                     peer_text, local_address_text(fd.get()));
    auto watch =
        loop_.watch(fd.get(), EventLoop::kReadable, [this, id](uint32_t) { on_events(id); });
    if (!watch.ok()) {
        return;
    }
    client.watch = std::move(*watch);
    client.fd = std::move(fd);
    ++allowance.connections;
    clients_.emplace(id, std::move(client));
}

void MetadataService::on_events(uint64_t id) {
    Client& client = clients_.at(id);
    if (client.connection->wants_input()) {
        char buffer[kReadSize];
        const ssize_t count = ::recv(client.fd.get(), buffer, sizeof(buffer), 0);
        if (count > 0) {
            client.connection->receive({buffer, static_cast<size_t>(count)});
        } else if (count == 0) {
            client.connection->receive_end();
        } else if (errno != EAGAIN && errno != EINTR) {
            client.connection->abort();
        }
    }
    pump(id);
}

void MetadataService::pump(uint64_t id) {
    const auto found = clients_.find(id);
    if (found == clients_.end()) {
        return;
    }
    Client& client = found->second;
    start_requests(id, client);
    if (!send_output(client) || client.connection->closed()) {
        remove(id);
        return;
    }
    // A kept-alive connection may hold its next request already.
    start_requests(id, client);
    if (client.connection->wants_shutdown()) {
        ::shutdown(client.fd.get(), SHUT_WR);
    }
    const bool reads = client.connection->wants_input();
    const bool writes = !client.connection->output().empty();
    if (!client.watch
             .set_events((reads ? EventLoop::kReadable : 0) | (writes ? EventLoop::kWritable : 0))
             .ok()) {
        remove(id);
    }
}

void MetadataService::start_requests(uint64_t id, Client& client) {
    auto next = client.connection->next_request();
    if (!next) {
        return;
    }
    next->context.wall_ns = dependencies_.clock.wall_ns();
    next->request.attach(client.peer);
    if (!take_token(client.peer)) {
        Reply reply = Reply::text("Too many requests\n", 429).with_header("Retry-After", "1");
        client.connection->answer(make_answer(std::move(reply), next->context));
        return;
    }
    run_request(id, std::move(*next));
}

void MetadataService::run_request(uint64_t id, Connection::Next next) {
    const ResponseContext context = next.context;
    // Shared: std::function wants copyable captures, a request is only moved.
    auto request = std::make_shared<Request>(std::move(next.request));
    const auto submitted = workers_.submit([this, id, request, context] {
        Answer answer = make_answer(router_.handle(*request), context);
        loop_.post([this, id, answer = std::move(answer)]() mutable {
            if (const auto found = clients_.find(id); found != clients_.end()) {
                found->second.connection->answer(std::move(answer));
                pump(id);
            }
        });
    });
    if (!submitted.ok()) {
        Reply reply = Reply::text("Busy\n", 503).with_header("Retry-After", "1");
        clients_.at(id).connection->answer(make_answer(std::move(reply), context));
    }
}

bool MetadataService::send_output(Client& client) {
    while (!client.connection->output().empty()) {
        const std::string_view output = client.connection->output();
        const ssize_t count = ::send(client.fd.get(), output.data(), output.size(), MSG_NOSIGNAL);
        if (count < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        client.connection->sent(static_cast<size_t>(count));
    }
    return true;
}

void MetadataService::remove(uint64_t id) {
    const auto found = clients_.find(id);
    if (found == clients_.end()) {
        return;
    }
    Allowance& allowance = allowances_[key_of(found->second.peer)];
    allowance.connections -= allowance.connections > 0 ? 1 : 0;
    clients_.erase(found);
}

bool MetadataService::take_token(const MetadataPeer& peer) {
    Allowance& allowance = allowances_[key_of(peer)];
    const int64_t now = dependencies_.clock.monotonic_ns();
    const auto rate = static_cast<double>(options_.requests_per_second);
    const double seconds =
        static_cast<double>(now - allowance.filled_ns) / static_cast<double>(kNanosPerSecond);
    allowance.tokens =
        allowance.filled_ns == 0 ? 2 * rate : std::min(2 * rate, allowance.tokens + rate * seconds);
    allowance.filled_ns = now;
    if (allowance.tokens < 1) {
        return false;
    }
    allowance.tokens -= 1;
    return true;
}

void MetadataService::sweep() {
    const int64_t now = dependencies_.clock.monotonic_ns();
    std::vector<uint64_t> late;
    for (const auto& [id, client] : clients_) {
        if (client.connection->deadline_ns() <= now) {
            late.push_back(id);
        }
    }
    for (const uint64_t id : late) {
        clients_.at(id).connection->expire();
        pump(id);
    }
    if (allowances_.size() > kAllowancesMax) {
        std::erase_if(allowances_, [](const auto& item) { return item.second.connections == 0; });
    }
    loop_.call_after(kSweepNs, [this] { sweep(); });
}

}  // namespace kumoi::api
