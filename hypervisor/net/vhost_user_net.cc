#include "hypervisor/net/vhost_user_net.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "hypervisor/limits/report_limit.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kFeatureVersion1 = 1ull << 32;
constexpr uint64_t kFrameOverhead = NetBackend::kHeaderSize + 14 + 4;  // Ethernet and a VLAN tag
constexpr uint64_t kSlotAlignment = 64;
constexpr uint64_t kPage = 4096;

uint64_t align_up(uint64_t value, uint64_t alignment) {
    return (value + alignment - 1) / alignment * alignment;
}

void signal_fd(const UniqueFd& fd) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(fd.get(), &one, sizeof(one));
}

// One ring, its slots (a buffer each) and the two descriptors it is driven by.
struct RingSide {
    RingSide(std::span<std::byte> memory, uint64_t memory_offset, uint64_t slot_bytes)
        : ring(memory, VhostUserNet::kRingSize),
          slots(memory.subspan(align_up(DriverRing::bytes(VhostUserNet::kRingSize), kPage))),
          slots_offset(memory_offset + align_up(DriverRing::bytes(VhostUserNet::kRingSize), kPage)),
          slot_size(slot_bytes) {}

    std::span<std::byte> slot(uint16_t index) const {
        return slots.subspan(index * slot_size, slot_size);
    }
    void give(uint16_t index, uint32_t length, uint16_t flags) {
        ring.set_descriptor(index, {slots_offset + index * slot_size, length, flags, 0});
        ring.give(index);
        if (ring.publish()) {
            signal_fd(kick);
        }
    }

    void reset() {
        ring.reset();
        free.clear();
        for (uint16_t slot = 0; slot < VhostUserNet::kRingSize; ++slot) {
            free.push_back(slot);
        }
    }
    // What the back end has sent may be used again.
    Result<void> reclaim() {
        while (const auto slot = TRY(ring.take())) {
            free.push_back(*slot);
        }
        return {};
    }

    DriverRing ring;
    std::vector<uint16_t> free;  // slots of a transmit ring
    std::span<std::byte> slots;
    const uint64_t slots_offset;  // where the back end finds them
    const uint64_t slot_size;
    UniqueFd kick;
    UniqueFd call;
};

class Link;  // the connection and the memory behind all pairs

class PairBackend final : public NetBackend {
public:
    PairBackend(std::shared_ptr<Link> link, uint16_t index);

    std::string name() const override;
    NetOffloads supported() const override { return {}; }
    Result<void> set_offloads(const NetOffloads& offloads) override;
    Result<void> set_active(bool active) override;
    int poll_fd() const override;
    int64_t receive(std::span<const iovec> vectors) override;
    int64_t send(std::span<const iovec> vectors) override;

private:
    std::shared_ptr<Link> link_;  // shared: each pair of a card is owned by itself
    const uint16_t index_;
};

class Link {
public:
    Link(VhostUserNet::Options options, UniqueFd first)
        : options_(std::move(options)),
          slot_size_(align_up(kFrameOverhead + options_.mtu, kSlotAlignment)),
          first_(std::move(first)) {}

    Result<void> initialise();
    Result<void> connect();
    int64_t receive(uint16_t pair, std::span<const iovec> vectors);
    int64_t send(uint16_t pair, std::span<const iovec> vectors);
    Result<void> set_active(uint16_t pair, bool active);
    const std::string& name() const { return options_.socket; }
    int poll_fd(uint16_t pair) const { return polls_[pair].get(); }

private:
    void lose(const Error& why);
    void lose_if_gone();
    void retry();
    Result<void> set_up(VhostUserConnection& connection);
    Result<void> start_ring(VhostUserConnection& connection, uint16_t index);

    const VhostUserNet::Options options_;
    const uint64_t slot_size_;
    UniqueFd memory_fd_;
    Mapping memory_;
    std::vector<std::unique_ptr<RingSide>> sides_;  // receive and transmit of each pair
    std::vector<UniqueFd> polls_;                   // of each pair: its receive ring's call
    std::vector<bool> active_;
    UniqueFd first_;
    std::unique_ptr<VhostUserConnection> connection_;
    int64_t next_try_ns_ = 0;
    ReportLimit reports_;
    bool told_ = false;  // that it is gone
};

Result<void> Link::initialise() {
    const uint64_t ring_bytes = align_up(DriverRing::bytes(VhostUserNet::kRingSize), kPage);
    const uint64_t side_bytes = ring_bytes + align_up(slot_size_ * VhostUserNet::kRingSize, kPage);
    const uint64_t size = side_bytes * 2 * options_.pairs;
    memory_fd_ = UniqueFd(::memfd_create("vhost-user-net", MFD_CLOEXEC));
    if (!memory_fd_.is_open() || ::ftruncate(memory_fd_.get(), static_cast<off_t>(size)) != 0) {
        return Error::from_errno(errno, "memory for a vhost-user card");
    }
    memory_ = TRY(Mapping::map(memory_fd_.get(), size, PROT_READ | PROT_WRITE, MAP_SHARED));
    for (uint16_t i = 0; i < 2 * options_.pairs; ++i) {
        auto side = std::make_unique<RingSide>(memory_.bytes().subspan(i * side_bytes, side_bytes),
                                               i * side_bytes, slot_size_);
        side->kick = TRY(make_eventfd());
        side->call = TRY(make_eventfd());
        sides_.push_back(std::move(side));
    }
    for (uint16_t pair = 0; pair < options_.pairs; ++pair) {
        active_.push_back(pair == 0);
        UniqueFd poll(::epoll_create1(EPOLL_CLOEXEC));
        epoll_event event{.events = EPOLLIN, .data = {}};
        if (::epoll_ctl(poll.get(), EPOLL_CTL_ADD, sides_[2 * pair]->call.get(), &event) != 0) {
            return Error::from_errno(errno, "watching a vhost-user ring");
        }
        polls_.push_back(std::move(poll));
    }
    return connect();
}

Result<void> Link::connect() {
    UniqueFd socket = first_.is_open() ? std::move(first_) : TRY(options_.connect());
    auto connection = VhostUserConnection::over(
        std::move(socket), {.timeout_ms = options_.timeout_ms, .clock = options_.clock});
    TRY(set_up(*connection));
    // Its end wakes the first pair, which then notices.
    epoll_event event{.events = EPOLLIN | EPOLLRDHUP, .data = {}};
    if (::epoll_ctl(polls_[0].get(), EPOLL_CTL_ADD, connection->fd(), &event) != 0) {
        return Error::from_errno(errno, "watching a vhost-user connection");
    }
    connection_ = std::move(connection);
    return {};
}

Result<void> Link::set_up(VhostUserConnection& connection) {
    TRY(connection.negotiate({.features = kFeatureVersion1,
                              .features_required = kFeatureVersion1,
                              .protocol_features = vhost_user::kProtocolMultiQueue |
                                                   vhost_user::kProtocolReplyAck |
                                                   vhost_user::kProtocolNetMtu}));
    const uint16_t pairs = TRY(connection.queue_count());
    if (pairs < options_.pairs) {
        return Error::unsupported("the vhost-user back end at {} has {} pairs of queues, not {}",
                                  options_.socket, pairs, options_.pairs)
            .with_hint("give the card fewer queue_pairs");
    }
    TRY(connection.set_mtu(options_.mtu));
    const VhostUserConnection::MemoryTableRegion region{0, memory_.size(), memory_.data(),
                                                        memory_fd_.get(), 0};
    TRY(connection.set_memory_table(std::span(&region, 1)));
    for (uint16_t i = 0; i < sides_.size(); ++i) {
        TRY(start_ring(connection, i));
    }
    return {};
}

Result<void> Link::start_ring(VhostUserConnection& connection, uint16_t index) {
    RingSide& side = *sides_[index];
    side.reset();
    if (index % 2 == 0) {
        for (uint16_t slot = 0; slot < VhostUserNet::kRingSize; ++slot) {
            side.give(slot, static_cast<uint32_t>(slot_size_), DriverRing::kWrite);
        }
    }
    TRY(connection.start_ring({.index = index,
                               .size = VhostUserNet::kRingSize,
                               .descriptors = side.ring.descriptors(),
                               .available = side.ring.available(),
                               .used = side.ring.used(),
                               .base = 0,
                               .kick_fd = side.kick.get(),
                               .call_fd = side.call.get()}));
    return active_[index / 2] ? Result<void>{} : connection.enable_ring(index, false);
}

void Link::lose(const Error& why) {
    if (connection_ == nullptr) {
        return;
    }
    told_ = reports_.admit().has_value();
    if (told_) {
        log_warn("net", "a vhost-user back end is gone",
                 {{"socket", options_.socket}, {"reason", why.text()}});
    }
    ::epoll_ctl(polls_[0].get(), EPOLL_CTL_DEL, connection_->fd(), nullptr);
    connection_.reset();
    next_try_ns_ = options_.clock->monotonic_ns() + VhostUserNet::kRetryNs;
}

void Link::retry() {
    if (connection_ != nullptr || options_.clock->monotonic_ns() < next_try_ns_) {
        return;
    }
    next_try_ns_ = options_.clock->monotonic_ns() + VhostUserNet::kRetryNs;
    if (connect().ok() && told_) {
        log_info("net", "a vhost-user back end is back", {{"socket", options_.socket}});
    }
}

Result<void> Link::set_active(uint16_t pair, bool active) {
    active_[pair] = active;
    if (connection_ == nullptr) {
        return {};
    }
    for (const uint16_t side : {0, 1}) {
        TRY(connection_->enable_ring(static_cast<uint16_t>(2 * pair + side), active));
    }
    return {};
}

PairBackend::PairBackend(std::shared_ptr<Link> link, uint16_t index)
    : link_(std::move(link)), index_(index) {}

std::string PairBackend::name() const {
    return link_->name();
}

Result<void> PairBackend::set_offloads(const NetOffloads& offloads) {
    if (offloads != NetOffloads{}) {
        return Error::unsupported("offloads of a vhost-user card");
    }
    return {};
}

Result<void> PairBackend::set_active(bool active) {
    return link_->set_active(index_, active);
}

int PairBackend::poll_fd() const {
    return link_->poll_fd(index_);
}

int64_t PairBackend::receive(std::span<const iovec> vectors) {
    return link_->receive(index_, vectors);
}

int64_t PairBackend::send(std::span<const iovec> vectors) {
    return link_->send(index_, vectors);
}

// A frame, or nothing. The descriptor that woke us is put down before the ring is looked at for the
// last time, so that nothing is missed.
int64_t Link::receive(uint16_t pair, std::span<const iovec> vectors) {
    if (connection_ == nullptr) {
        return -EAGAIN;
    }
    RingSide& side = *sides_[2 * pair];
    auto taken = side.ring.take();
    if (taken.ok() && !*taken) {
        uint64_t count = 0;
        const bool was_called = ::read(side.call.get(), &count, sizeof(count)) == sizeof(count);
        taken = side.ring.take();
        if (taken.ok() && !*taken) {
            if (!was_called && pair == 0) {
                lose_if_gone();
            }
            return -EAGAIN;
        }
    }
    if (!taken.ok()) {
        lose(taken.error());
        return -EAGAIN;
    }
    const uint16_t slot = **taken;
    const std::span<const std::byte> frame =
        side.slot(slot).first(std::min<uint64_t>(side.ring.taken_length(), slot_size_));
    size_t done = 0;
    for (const iovec& vector : vectors) {
        const size_t part = std::min(vector.iov_len, frame.size() - done);
        std::memcpy(vector.iov_base, frame.data() + done, part);
        done += part;
    }
    side.give(slot, static_cast<uint32_t>(slot_size_), DriverRing::kWrite);
    return static_cast<int64_t>(done);
}

int64_t Link::send(uint16_t pair, std::span<const iovec> vectors) {
    retry();
    if (connection_ == nullptr) {
        return -ENETDOWN;
    }
    RingSide& side = *sides_[2 * pair + 1];
    if (auto reclaimed = side.reclaim(); !reclaimed.ok()) {
        lose(reclaimed.error());
        return -ENETDOWN;
    }
    if (side.free.empty()) {
        return -EAGAIN;
    }
    size_t size = 0;
    for (const iovec& vector : vectors) {
        size += vector.iov_len;
    }
    if (size > slot_size_) {
        return -EMSGSIZE;
    }
    const uint16_t slot = side.free.back();
    side.free.pop_back();
    std::byte* to = side.slot(slot).data();
    for (const iovec& vector : vectors) {
        std::memcpy(to, vector.iov_base, vector.iov_len);
        to += vector.iov_len;
    }
    side.give(slot, static_cast<uint32_t>(size), 0);
    return static_cast<int64_t>(size);
}

void Link::lose_if_gone() {
    pollfd state{connection_->fd(), POLLIN | POLLRDHUP, 0};
    if (::poll(&state, 1, 0) == 1) {
        lose(Error::unavailable("it closed the connection, or spoke out of turn"));
    }
}

}  // namespace

Result<std::vector<std::unique_ptr<NetBackend>>> VhostUserNet::open(Options options,
                                                                    UniqueFd first) {
    const uint16_t pairs = options.pairs;
    auto link = std::make_shared<Link>(std::move(options), std::move(first));
    TRY(link->initialise());
    std::vector<std::unique_ptr<NetBackend>> backends;
    for (uint16_t i = 0; i < pairs; ++i) {
        backends.push_back(std::make_unique<PairBackend>(link, i));
    }
    return backends;
}

}  // namespace kumoi::hypervisor
