#include "hypervisor/virtio/vsock.h"

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>

#include "base/log.h"

namespace kumoi::hypervisor {

using vsock::Header;
using vsock::Operation;

namespace {

enum Field : uint16_t { kFieldCid = 1 };
constexpr uint32_t kHostPortLast = (1u << 31) - 1;
constexpr size_t kHandshakeBytesMax = 32;  // "CONNECT 4294967295\n"
constexpr std::string_view kConnect = "CONNECT ";
constexpr size_t kVectorCountMax = 1024;  // IOV_MAX
constexpr unsigned kAcceptsPerWakeup = 16;

std::optional<uint32_t> parse_connect(std::string_view line) {
    if (!line.starts_with(kConnect)) {
        return std::nullopt;
    }
    line.remove_prefix(kConnect.size());
    if (line.ends_with('\r')) {
        line.remove_suffix(1);
    }
    uint32_t port = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), port);
    return error == std::errc() && end == line.data() + line.size() ? std::optional(port)
                                                                    : std::nullopt;
}

}  // namespace

VirtioVsock::VirtioVsock(std::string name, uint64_t guest_cid,
                         std::unique_ptr<VsockSockets> sockets)
    : name_(std::move(name)), guest_cid_(guest_cid), sockets_(std::move(sockets)) {}

VirtioVsock::~VirtioVsock() = default;

void VirtioVsock::read_config(uint32_t offset, std::span<uint8_t> out) const {
    std::array<uint8_t, sizeof(guest_cid_)> bytes;
    std::memcpy(bytes.data(), &guest_cid_, bytes.size());
    read_config_bytes(bytes, offset, out);
}

// --- Life ---

Result<void> VirtioVsock::start(VirtioContext& context) {
    context_ = &context;
    paused_ = false;
    watch_listener();
    return {};
}

void VirtioVsock::watch_listener() {
    auto watch = context_->loop().watch(sockets_->listener(), EventLoop::kReadable,
                                        [this](uint32_t /*events*/) { accept(); });
    if (!watch.ok()) {
        if (const auto unreported = reports_.admit()) {  // a driver may start it again and again
            log_error(
                "virtio", "cannot take connections",
                {{"device", name_}, {"reason", watch.error().text()}, {"unreported", *unreported}});
        }
        return;
    }
    listener_watch_ = std::move(watch).value();
}

void VirtioVsock::quiesce() {
    paused_ = true;
    listener_watch_.reset();
    for (Handshake& handshake : handshakes_) {
        handshake.watch.reset();
    }
    for (auto& [key, connection] : connections_) {
        update_watch(*connection);
    }
}

void VirtioVsock::resume() {
    paused_ = false;
    watch_listener();
    for (auto handshake = handshakes_.begin(); handshake != handshakes_.end(); ++handshake) {
        watch_handshake(handshake);
    }
    for (auto& [key, connection] : connections_) {
        update_watch(*connection);
    }
}

void VirtioVsock::stop() {
    listener_watch_.reset();
    handshakes_.clear();
    waiting_.clear();
    strays_.clear();
    connections_.clear();
    connection_count_ = 0;
    payload_ = {};
    context_ = nullptr;
}

void VirtioVsock::process_queue(Queue& queue) {
    switch (queue.index()) {
        case kReceiveQueue: receive(queue); break;
        case kTransmitQueue: transmit(queue); break;
        default: send_events(queue); break;
    }
}

// --- From the guest ---

void VirtioVsock::transmit(Queue& queue) {
    while (auto chain = queue.next_chain()) {
        take_packet(*chain);
    }
    if (!waiting_.empty() || !strays_.empty()) {
        context_->run_queue(kReceiveQueue);
    }
}

void VirtioVsock::take_packet(const Chain& chain) {
    Header header;
    const uint64_t size = chain.readable_size();
    if (!chain.writable().empty() || size < sizeof(header)) {
        malformed_.increment();
        return;
    }
    chain.copy_out(0, std::as_writable_bytes(std::span(&header, 1)));
    const bool data = header.op() == Operation::Data;
    if (header.source_cid != guest_cid_ || header.length > vsock::kPayloadMax ||
        header.length > size - sizeof(header) || (!data && header.length != 0)) {
        malformed_.increment();
        return;
    }
    packets_in_.increment();
    const auto found = connections_.find({header.destination_port, header.source_port});
    if (header.destination_cid != vsock::kHostCid || header.type != vsock::kTypeStream) {
        reset_stray(header);
        return;
    }
    if (found == connections_.end()) {
        header.op() == Operation::Request ? take_request(header) : reset_stray(header);
        return;
    }
    VsockConnection& connection = *found->second;
    payload_.resize(header.length);
    chain.copy_out(sizeof(header), payload_);
    from_guest_bytes_.increment(payload_.size());
    const bool was_established = connection.established();
    connection.take(header, payload_);
    if (!was_established && connection.established()) {
        const std::string answer = fmt::format("OK {}\n", connection.key().host_port);
        if (::send(connection.socket(), answer.data(), answer.size(), MSG_NOSIGNAL) !=
            static_cast<ssize_t>(answer.size())) {
            connection.socket_failed();
        }
    }
    after(connection);
}

void VirtioVsock::take_request(const Header& header) {
    auto socket =
        connections_.size() < kConnectionsMax
            ? sockets_->connect(header.destination_port)
            : Result<UniqueFd>(Error::exhausted("{} connections are open", kConnectionsMax));
    if (!socket.ok()) {
        refused_.increment();
        reset_stray(header);
        return;
    }
    VsockConnection* connection = add({header.destination_port, header.source_port},
                                      VsockConnection::Origin::Guest, std::move(socket).value());
    connection->take_credit(header);
    after(*connection);
}

// §5.10.6.4.1: what belongs to no connection is answered by a reset, which is not answered itself.
void VirtioVsock::reset_stray(const Header& header) {
    if (header.op() == Operation::Reset) {
        return;
    }
    if (strays_.size() >= kStrayRepliesMax) {
        strays_dropped_.increment();
        return;
    }
    Header answer;
    answer.source_cid = header.destination_cid;
    answer.source_port = header.destination_port;
    answer.destination_port = header.source_port;
    answer.type = header.type;
    answer.operation = static_cast<uint16_t>(Operation::Reset);
    strays_.push_back(answer);
}

// --- To the guest ---

void VirtioVsock::receive(Queue& queue) {
    while (!waiting_.empty() || !strays_.empty()) {
        auto chain = queue.next_chain();
        if (!chain) {
            return;  // the driver adds buffers and rings
        }
        if (!chain->readable().empty() || chain->writable_size() <= sizeof(Header)) {
            malformed_.increment();
            continue;
        }
        if (!fill(*chain)) {
            queue.put_back(std::move(*chain));
            return;
        }
    }
}

// One packet into one buffer. False when nobody had anything to say after all.
bool VirtioVsock::fill(Chain& chain) {
    if (!strays_.empty()) {
        put_header(chain, strays_.front());
        strays_.pop_front();
        return true;
    }
    while (!waiting_.empty()) {
        const Key key = waiting_.front();
        waiting_.pop_front();
        const auto found = connections_.find(key);
        if (found == connections_.end() || !found->second->queued) {
            continue;
        }
        VsockConnection& connection = *found->second;
        connection.queued = false;
        const bool sent = serve(connection, chain);
        if (sent && connection.established()) {
            queue_up(connection);  // there may be more: at the end of the ring
        }
        after(connection);
        if (sent) {
            return true;
        }
    }
    return false;
}

bool VirtioVsock::serve(VsockConnection& connection, Chain& chain) {
    if (!connection.has_message()) {
        const uint32_t room = connection.data_room();  // may wish for credit instead
        if (room > 0 && read_into(connection, chain, room)) {
            return true;
        }
    }
    if (!connection.has_message()) {
        return false;
    }
    put_header(chain, connection.next_message());
    return true;
}

bool VirtioVsock::read_into(VsockConnection& connection, Chain& chain, uint32_t room) {
    vectors_.clear();
    chain.writable_vectors(sizeof(Header), room, vectors_);
    const auto count = static_cast<int>(std::min(vectors_.size(), kVectorCountMax));
    const ssize_t size = ::readv(connection.socket(), vectors_.data(), count);
    if (size > 0) {
        const auto bytes = static_cast<uint32_t>(size);
        put_header(chain, connection.data_header(bytes));
        chain.add_used(bytes);
        to_guest_bytes_.increment(bytes);
        return true;
    }
    if (size == 0) {
        connection.socket_ended();
    } else if (errno != EAGAIN && errno != EINTR) {
        connection.socket_failed();
    }
    return false;
}

void VirtioVsock::put_header(Chain& chain, Header header) {
    header.destination_cid = guest_cid_;
    chain.copy_in(0, std::as_bytes(std::span(&header, 1)));
    chain.add_used(sizeof(header));
    packets_out_.increment();
}

void VirtioVsock::send_events(Queue& queue) {
    if (!transport_reset_) {
        return;
    }
    auto chain = queue.next_chain();
    if (!chain) {
        return;
    }
    const uint32_t event = vsock::kEventTransportReset;
    chain->add_used(static_cast<uint32_t>(chain->copy_in(0, std::as_bytes(std::span(&event, 1)))));
    transport_reset_ = false;
}

// --- Connections ---

VsockConnection* VirtioVsock::add(Key key, VsockConnection::Origin origin, UniqueFd socket) {
    auto connection = std::make_unique<VsockConnection>(key, origin, std::move(socket));
    VsockConnection* made = connection.get();
    connections_[key] = std::move(connection);
    connection_count_ = connections_.size();
    opened_.increment();
    return made;
}

void VirtioVsock::after(VsockConnection& connection) {
    if (connection.finished()) {
        const Key key = connection.key();  // a copy: it dies with the connection
        connections_.erase(key);
        connection_count_ = connections_.size();
        return;
    }
    if (connection.has_message()) {
        queue_up(connection);
    }
    update_watch(connection);
}

void VirtioVsock::queue_up(VsockConnection& connection) {
    if (!connection.queued) {
        connection.queued = true;
        waiting_.push_back(connection.key());
    }
}

void VirtioVsock::update_watch(VsockConnection& connection) {
    uint32_t events = connection.wants_read() && !connection.queued ? EventLoop::kReadable : 0;
    events |= connection.wants_write() ? EventLoop::kWritable : 0;
    events = paused_ ? 0 : events;
    if (events == connection.watched_events) {
        return;
    }
    connection.watched_events = events;
    connection.watch.reset();
    if (events == 0) {
        return;
    }
    auto watch = context_->loop().watch(
        connection.socket(), events,
        [this, key = connection.key()](uint32_t ready) { socket_ready(key, ready); });
    if (!watch.ok()) {
        connection.watched_events = 0;
        connection.socket_failed();
        queue_up(connection);
        return;
    }
    connection.watch = std::move(watch).value();
}

void VirtioVsock::socket_ready(const Key& key, uint32_t events) {
    const auto found = connections_.find(key);
    if (found == connections_.end()) {
        return;
    }
    VsockConnection& connection = *found->second;
    if (connection.wants_write()) {  // a hang-up comes as readable: writing finds it, too
        connection.flush();
    }
    if ((events & EventLoop::kReadable) != 0 && connection.wants_read()) {
        queue_up(connection);
    }
    after(connection);
    if (!waiting_.empty() || !strays_.empty()) {
        context_->serve_queue(kReceiveQueue);
    }
}

// --- Connections from the host ---

void VirtioVsock::accept() {
    for (unsigned i = 0; i < kAcceptsPerWakeup; ++i) {
        UniqueFd socket = sockets_->accept();
        if (!socket.is_open()) {
            return;
        }
        if (handshakes_.size() >= kHandshakesMax) {  // the oldest has said nothing for longest
            handshakes_.pop_front();
            refused_.increment();
        }
        handshakes_.push_back({.socket = std::move(socket), .watch = {}, .line = {}});
        const auto handshake = std::prev(handshakes_.end());
        watch_handshake(handshake);
    }
}

// One that cannot be watched is given up when others need its place.
void VirtioVsock::watch_handshake(Handshakes::iterator handshake) {
    auto watch = context_->loop().watch(
        handshake->socket.get(), EventLoop::kReadable,
        [this, handshake](uint32_t /*events*/) { handshake_ready(handshake); });
    if (watch.ok()) {
        handshake->watch = std::move(watch).value();
    }
}

// Byte by byte, because what follows the line belongs to the guest.
void VirtioVsock::handshake_ready(Handshakes::iterator handshake) {
    char byte = 0;
    ssize_t count = 0;
    while ((count = ::read(handshake->socket.get(), &byte, 1)) == 1 && byte != '\n' &&
           handshake->line.size() < kHandshakeBytesMax) {
        handshake->line.push_back(byte);
    }
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    const auto port = count == 1 && byte == '\n' ? parse_connect(handshake->line) : std::nullopt;
    handshake->watch.reset();
    UniqueFd socket = std::move(handshake->socket);
    handshakes_.erase(handshake);
    if (port && connections_.size() < kConnectionsMax) {
        connect_to_guest(std::move(socket), *port);
    } else {
        refused_.increment();
    }
}

void VirtioVsock::connect_to_guest(UniqueFd socket, uint32_t guest_port) {
    Key key{next_host_port_, guest_port};
    while (connections_.contains(key)) {  // at most as often as there are connections
        key.host_port = key.host_port == kHostPortLast ? kHostPortFirst : key.host_port + 1;
    }
    next_host_port_ = key.host_port == kHostPortLast ? kHostPortFirst : key.host_port + 1;
    VsockConnection* connection = add(key, VsockConnection::Origin::Host, std::move(socket));
    expect_response(key);
    after(*connection);
    context_->serve_queue(kReceiveQueue);
}

// A guest that does not answer must not keep a connection of the host for ever.
void VirtioVsock::expect_response(const Key& key) {
    context_->loop().call_after(kRequestTimeoutNs, [this, key] {
        const auto found = connections_.find(key);
        if (context_ == nullptr || found == connections_.end() || found->second->established()) {
            return;
        }
        found->second->socket_failed();
        after(*found->second);
        if (!paused_) {
            context_->serve_queue(kReceiveQueue);
        }
    });
}

void VirtioVsock::save(SectionWriter& out) const {
    out.u64(kFieldCid, guest_cid_);
}

Result<void> VirtioVsock::load(SectionReader& in) {
    if (TRY(in.u64(kFieldCid)) != guest_cid_) {
        return in.refuse(kFieldCid, "the guest's cid is another one");
    }
    transport_reset_ = true;
    return {};
}

DeviceStatistics VirtioVsock::statistics() const {
    return {{"connections", connection_count_},
            {"opened", opened_.value()},
            {"refused", refused_.value()},
            {"to_guest_bytes", to_guest_bytes_.value()},
            {"from_guest_bytes", from_guest_bytes_.value()},
            {"packets_to_guest", packets_out_.value()},
            {"packets_from_guest", packets_in_.value()},
            {"replies_dropped", strays_dropped_.value()},
            {"malformed_chains", malformed_.value()}};
}

}  // namespace kumoi::hypervisor
