#include "hypervisor/vhost_user/connection.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "hypervisor/memory/guest_memory.h"

namespace kumoi::hypervisor {

using vhost_user::BackendRequest;
using vhost_user::Message;
using vhost_user::MessageChannel;
using vhost_user::Request;

namespace {

const Clock& system_clock() {
    static const SystemClock clock;  // no state
    return clock;
}

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
    return std::as_bytes(std::span(&value, 1));
}

uint64_t address(const std::byte* host) {
    return reinterpret_cast<uint64_t>(host);
}

template <class T>
Result<T> exactly(const Message& message) {
    if (message.payload.size() != sizeof(T)) {
        return Error::corrupt("the vhost-user back end answered {} bytes to request {}, not {}",
                              message.payload.size(), message.request, sizeof(T));
    }
    T value;
    std::memcpy(&value, message.payload.data(), sizeof(T));
    return value;
}

}  // namespace

Result<std::unique_ptr<VhostUserConnection>> VhostUserConnection::connect(const std::string& path,
                                                                          Options options) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof(name.sun_path)) {
        return Error::invalid("the vhost-user socket path {} has {} bytes; 1 to {} are possible",
                              path, path.size(), sizeof(name.sun_path) - 1);
    }
    std::memcpy(name.sun_path, path.data(), path.size());
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.is_open()) {
        return Error::from_errno(errno, "making a socket");
    }
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0) {
        return Error::unavailable("no vhost-user back end listens at {}: {}", path,
                                  std::strerror(errno))
            .with_hint("start it first (for example qemu-storage-daemon), and check the path");
    }
    return over(std::move(socket), options);
}

std::unique_ptr<VhostUserConnection> VhostUserConnection::over(UniqueFd socket, Options options) {
    const Clock& clock = options.clock != nullptr ? *options.clock : system_clock();
    return std::unique_ptr<VhostUserConnection>(
        new VhostUserConnection(std::move(socket), options, clock));
}

// --- Questions and answers ---

// A message that changes something. With REPLY_ACK the back end says whether it worked.
Result<void> VhostUserConnection::set(Request request, std::span<const std::byte> payload,
                                      std::span<const int> fds) {
    const bool acknowledged = has_protocol(vhost_user::kProtocolReplyAck);
    TRY(channel_.send(static_cast<uint32_t>(request), acknowledged ? vhost_user::kFlagNeedReply : 0,
                      payload, fds));
    if (!acknowledged) {
        return {};
    }
    const uint64_t status = TRY(exactly<uint64_t>(TRY(answer(request))));
    if (status != 0) {
        return Error::conflict("the vhost-user back end refused request {} with status {}",
                               static_cast<uint32_t>(request), status);
    }
    return {};
}

Result<void> VhostUserConnection::set_number(Request request, uint64_t value) {
    return set(request, bytes_of(value));
}

Result<Message> VhostUserConnection::ask(Request request, std::span<const std::byte> payload) {
    TRY(channel_.send(static_cast<uint32_t>(request), 0, payload));
    return answer(request);
}

Result<Message> VhostUserConnection::answer(Request request) {
    Message message = TRY(channel_.receive());
    if (message.request != static_cast<uint32_t>(request) ||
        (message.flags & vhost_user::kFlagReply) == 0) {
        return Error::corrupt("the vhost-user back end answered request {} with message {}",
                              static_cast<uint32_t>(request), message.request);
    }
    if (!message.fds.empty() && request != Request::GetInflightFd) {
        return Error::corrupt("the vhost-user back end sent a descriptor with its answer to {}",
                              message.request);
    }
    return message;
}

Result<uint64_t> VhostUserConnection::ask_number(Request request) {
    return exactly<uint64_t>(TRY(ask(request, {})));
}

// --- Negotiation ---

Result<void> VhostUserConnection::negotiate(const Wanted& wanted) {
    const uint64_t offered = TRY(ask_number(Request::GetFeatures));
    const uint64_t missing = wanted.features_required & ~offered;
    if (missing != 0) {
        return Error::unsupported("the vhost-user back end lacks the virtio features {:#x}",
                                  missing)
            .with_hint("use a newer back end");
    }
    features_ = offered & (wanted.features | wanted.features_required);
    if ((offered & vhost_user::kFeatureProtocolFeatures) != 0) {
        features_ |= vhost_user::kFeatureProtocolFeatures;
        TRY(negotiate_protocol(TRY(ask_number(Request::GetProtocolFeatures)),
                               wanted.protocol_features));
    }
    TRY(set(Request::SetOwner, {}));
    return set_number(Request::SetFeatures, features_);
}

Result<void> VhostUserConnection::negotiate_protocol(uint64_t offered, uint64_t wanted) {
    const uint64_t agreed = offered & wanted;
    // Acknowledgements are only in force once this message has been taken.
    TRY(channel_.send(static_cast<uint32_t>(Request::SetProtocolFeatures), 0, bytes_of(agreed)));
    protocol_features_ = agreed;
    return {};
}

Result<uint16_t> VhostUserConnection::queue_count() {
    if (!has_protocol(vhost_user::kProtocolMultiQueue)) {
        return uint16_t{1};
    }
    const uint64_t count = TRY(ask_number(Request::GetQueueNum));
    if (count == 0 || count > UINT16_MAX) {
        return Error::corrupt("the vhost-user back end says it has {} queues", count);
    }
    return static_cast<uint16_t>(count);
}

// --- Memory ---

Result<void> VhostUserConnection::set_memory_table(std::span<const MemoryTableRegion> regions) {
    if (regions.empty() || regions.size() > vhost_user::kMemoryRegionsMax) {
        return Error::unsupported("{} pieces of memory; a vhost-user back end takes 1 to {}",
                                  regions.size(), vhost_user::kMemoryRegionsMax);
    }
    std::vector<std::byte> payload(8 + regions.size() * sizeof(vhost_user::MemoryTableEntry));
    const auto count = static_cast<uint32_t>(regions.size());
    std::memcpy(payload.data(), &count, sizeof(count));
    std::vector<int> fds;
    for (size_t i = 0; i < regions.size(); ++i) {
        const MemoryTableRegion& region = regions[i];
        const vhost_user::MemoryTableEntry entry{region.guest_address, region.size,
                                                 address(region.host), region.file_offset};
        std::memcpy(payload.data() + 8 + i * sizeof(entry), &entry, sizeof(entry));
        fds.push_back(region.fd);
    }
    return set(Request::SetMemTable, payload, fds);
}

// --- Rings ---

Result<void> VhostUserConnection::start_ring(const Ring& ring) {
    TRY(set(Request::SetVringNum, bytes_of(vhost_user::RingState{ring.index, ring.size})));
    TRY(set(Request::SetVringBase, bytes_of(vhost_user::RingState{ring.index, ring.base})));
    TRY(set(Request::SetVringAddr,
            bytes_of(vhost_user::RingAddress{ring.index, 0, address(ring.descriptors),
                                             address(ring.used), address(ring.available), 0})));
    TRY(set_ring_fd(Request::SetVringCall, ring.index, ring.call_fd));
    TRY(set_ring_fd(Request::SetVringErr, ring.index, ring.error_fd));
    TRY(set_ring_fd(Request::SetVringKick, ring.index, ring.kick_fd));  // starts it
    return enable_ring(ring.index, true);
}

Result<void> VhostUserConnection::set_ring_fd(Request request, uint16_t index, int fd) {
    const uint64_t value = index | (fd < 0 ? vhost_user::kRingNoFd : 0);
    const std::array<int, 1> fds{fd};
    return set(request, bytes_of(value), std::span(fds).first(fd < 0 ? 0 : 1));
}

Result<void> VhostUserConnection::enable_ring(uint16_t index, bool enabled) {
    if ((features_ & vhost_user::kFeatureProtocolFeatures) == 0) {
        return {};  // rings are enabled from the start
    }
    return set(Request::SetVringEnable, bytes_of(vhost_user::RingState{index, enabled ? 1u : 0u}));
}

Result<uint16_t> VhostUserConnection::stop_ring(uint16_t index) {
    const vhost_user::RingState wanted{index, 0};
    const auto state =
        TRY(exactly<vhost_user::RingState>(TRY(ask(Request::GetVringBase, bytes_of(wanted)))));
    if (state.index != index || state.value > UINT16_MAX) {
        return Error::corrupt("the vhost-user back end says ring {} stopped at {} of ring {}",
                              index, state.value, state.index);
    }
    return static_cast<uint16_t>(state.value);
}

// --- Configuration space ---

Result<void> VhostUserConnection::read_config(std::span<std::byte> out) {
    if (!has_protocol(vhost_user::kProtocolConfig) || out.size() > vhost_user::kConfigSizeMax) {
        return Error::unsupported("the vhost-user back end has no configuration space of {} bytes",
                                  out.size());
    }
    const vhost_user::ConfigHeader wanted{0, static_cast<uint32_t>(out.size()), 0};
    std::vector<std::byte> payload(sizeof(wanted) + out.size());
    std::memcpy(payload.data(), &wanted, sizeof(wanted));
    const Message message = TRY(ask(Request::GetConfig, payload));
    vhost_user::ConfigHeader header{};
    if (message.payload.size() != payload.size()) {
        return Error::corrupt("the vhost-user back end answered {} bytes of configuration, not {}",
                              message.payload.size(), payload.size());
    }
    std::memcpy(&header, message.payload.data(), sizeof(header));
    if (header.size != wanted.size || header.offset != 0) {
        return Error::corrupt("the vhost-user back end answered configuration {}+{}, not 0+{}",
                              header.offset, header.size, wanted.size);
    }
    std::memcpy(out.data(), message.payload.data() + sizeof(header), out.size());
    return {};
}

Result<void> VhostUserConnection::write_config(uint32_t offset, std::span<const std::byte> bytes) {
    if (!has_protocol(vhost_user::kProtocolConfig) || bytes.size() > vhost_user::kConfigSizeMax) {
        return Error::unsupported("the vhost-user back end's configuration cannot be written");
    }
    const vhost_user::ConfigHeader header{offset, static_cast<uint32_t>(bytes.size()), 0};
    std::vector<std::byte> payload(sizeof(header) + bytes.size());
    std::memcpy(payload.data(), &header, sizeof(header));
    std::memcpy(payload.data() + sizeof(header), bytes.data(), bytes.size());
    return set(Request::SetConfig, payload);
}

// --- In flight ---

Result<VhostUserConnection::Inflight> VhostUserConnection::get_inflight(uint16_t queue_count,
                                                                        uint16_t queue_size) {
    constexpr uint64_t kInflightBytesMax = 64u << 20;
    if (!has_protocol(vhost_user::kProtocolInflight)) {
        return Error::unsupported("the vhost-user back end does not keep what is in flight");
    }
    const vhost_user::InflightDescription wanted{0, 0, queue_count, queue_size};
    Message message = TRY(ask(Request::GetInflightFd, bytes_of(wanted)));
    Inflight inflight;
    inflight.description = TRY(exactly<vhost_user::InflightDescription>(message));
    const uint64_t size = inflight.description.mmap_size;
    if (message.fds.size() != 1 || size == 0 || size > kInflightBytesMax) {
        return Error::corrupt(
            "the vhost-user back end answered {} descriptors and {} bytes for "
            "what is in flight",
            message.fds.size(), size);
    }
    inflight.fd = std::move(message.fds.front());
    inflight.description.queue_count = queue_count;
    inflight.description.queue_size = queue_size;
    return inflight;
}

Result<void> VhostUserConnection::set_inflight(const Inflight& inflight) {
    const std::array<int, 1> fds{inflight.fd.get()};
    return set(Request::SetInflightFd, bytes_of(inflight.description), fds);
}

// --- Network ---

Result<void> VhostUserConnection::set_mtu(uint16_t mtu) {
    if (!has_protocol(vhost_user::kProtocolNetMtu)) {
        return {};
    }
    return set_number(Request::NetSetMtu, mtu);
}

Result<void> VhostUserConnection::send_rarp(std::span<const uint8_t, 6> mac) {
    uint64_t value = 0;
    std::memcpy(&value, mac.data(), mac.size());
    return set_number(Request::SendRarp, value);
}

// --- The back end's own requests ---

Result<void> VhostUserConnection::open_backend_channel() {
    if (!has_protocol(vhost_user::kProtocolBackendRequest)) {
        return Error::unsupported("the vhost-user back end has no requests of its own");
    }
    std::array<int, 2> pair{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair.data()) != 0) {
        return Error::from_errno(errno, "making a socket pair");
    }
    UniqueFd ours(pair[0]);
    const UniqueFd theirs(pair[1]);
    const std::array<int, 1> fds{theirs.get()};
    TRY(set(Request::SetBackendRequestFd, {}, fds));
    backend_ = std::make_unique<MessageChannel>(std::move(ours), options_.timeout_ms, clock_);
    return {};
}

Result<BackendRequest> VhostUserConnection::take_backend_request() {
    KUMOI_ASSERT(backend_ != nullptr);
    const Message message = TRY(backend_->receive());  // its descriptors are closed: we want none
    const auto request = static_cast<BackendRequest>(message.request);
    if ((message.flags & vhost_user::kFlagNeedReply) != 0) {
        const uint64_t status = request == BackendRequest::ConfigChange ? 0 : 1;
        TRY(backend_->send(message.request, vhost_user::kFlagReply, bytes_of(status)));
    }
    return request;
}

std::vector<VhostUserConnection::MemoryTableRegion> memory_table_of(const GuestMemory& memory) {
    std::vector<VhostUserConnection::MemoryTableRegion> table;
    for (const MemoryRegion& region : memory.regions()) {
        table.push_back({region.gpa, region.size, region.host, memory.fd(), region.file_offset});
    }
    return table;
}

}  // namespace kumoi::hypervisor
