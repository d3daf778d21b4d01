#include "hypervisor/virtio/net_pair.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/log.h"

namespace kumoi::hypervisor {

using namespace virtio_net;

namespace {

constexpr uint64_t kBufferCountAt = 10;   // in the header
constexpr size_t kVectorCountMax = 1024;  // IOV_MAX

uint64_t feature_of(uint8_t gso_type) {
    switch (gso_type) {
        case kGsoTcp4: return kHostTso4;
        case kGsoTcp6: return kHostTso6;
        case kGsoUdp: return kHostUfo;
        case kGsoUdpL4: return kHostUso;
        default: return 0;
    }
}

}  // namespace

NetOffloads virtio_net::offloads_of(uint64_t features) {
    const auto has = [features](uint64_t mask) { return (features & mask) == mask; };
    NetOffloads offloads;
    offloads.checksum = has(kGuestChecksum);
    if (offloads.checksum) {
        offloads.tso4 = has(kGuestTso4);
        offloads.tso6 = has(kGuestTso6);
        offloads.ufo = has(kGuestUfo);
        offloads.uso = has(kGuestUso4 | kGuestUso6);
    }
    return offloads;
}

NetPair::NetPair(std::string device, uint16_t receive_queue, uint16_t mtu,
                 std::unique_ptr<NetBackend> backend, const NetFilter& filter,
                 NicThrottle& throttle, NetCounters& counters)
    : device_(std::move(device)),
      receive_queue_(receive_queue),
      mtu_(mtu),
      backend_(std::move(backend)),
      filter_(filter),
      counters_(counters),
      inbound_(throttle, NicThrottle::Direction::Inbound, receive_queue, counters.rx_throttled),
      outbound_(throttle, NicThrottle::Direction::Outbound,
                static_cast<uint16_t>(receive_queue + 1), counters.tx_throttled) {}

void NetPair::start(VirtioContext& context, bool active) {
    context_ = &context;
    inbound_.start(context);
    outbound_.start(context);
    negotiated_ = context.features();
    paused_ = false;
    elsewhere_ = false;
    active_ = active;
    watch_backend(context.queue(receive_queue_) != nullptr);
}

void NetPair::set_active(bool active) {
    active_ = active;
    watch_backend(active && context_->queue(receive_queue_) != nullptr);
}

void NetPair::set_served_elsewhere(bool elsewhere) {
    if (std::exchange(elsewhere_, elsewhere) == elsewhere) {
        return;
    }
    if (elsewhere) {
        watch_backend(false);
    }
}

// --- Transmit ---

void NetPair::transmit(Queue& queue) {
    while (outbound_.may_pass()) {
        auto chain = queue.next_chain();
        if (!chain) {
            return;
        }
        transmit_chain(*chain);
    }
}

void NetPair::transmit_chain(Chain& chain) {
    Header header{};
    const uint64_t size = chain.readable_size();
    if (!chain.writable().empty() || size < kHeaderSize + kEthernetHeader ||
        size > kHeaderSize + kFrameBytesMax) {
        counters_.malformed.increment();
        return;
    }
    chain.copy_out(0, std::as_writable_bytes(std::span(&header, 1)));
    vectors_.assign(1, {&header, kHeaderSize});
    chain.readable_vectors(kHeaderSize, size - kHeaderSize, vectors_);
    if (!sanitise(header, size - kHeaderSize) || vectors_.size() > kVectorCountMax) {
        counters_.malformed.increment();
        return;
    }
    outbound_.count(size - kHeaderSize);
    // A full backend loses the frame, as a full cable would; waiting would let one guest's speed
    // decide how long its buffers stay with us.
    if (backend_->send(vectors_) < 0) {
        counters_.tx_dropped.increment();
        return;
    }
    counters_.tx_frames.increment();
    counters_.tx_bytes.increment(size - kHeaderSize);
}

// §5.1.6.2: what a driver may put into a header, given what was negotiated. Fields that mean
// nothing without their flag are cleared, so that the host's kernel sees only what was checked.
bool NetPair::sanitise(Header& header, uint64_t frame_size) const {
    header.flags &= kNeedsChecksum;
    header.buffer_count = 0;
    if ((header.flags & kNeedsChecksum) != 0) {
        const uint64_t end = uint64_t{header.checksum_start} + header.checksum_offset + 2;
        if ((negotiated_ & kChecksum) == 0 || end > frame_size) {
            return false;
        }
    } else {
        header.checksum_start = 0;
        header.checksum_offset = 0;
    }
    if (header.gso_type == kGsoNone) {
        header.gso_size = 0;
        header.header_length = 0;
        return true;
    }
    return (negotiated_ & feature_of(header.gso_type)) != 0 &&
           (header.flags & kNeedsChecksum) != 0 && header.gso_size != 0 &&
           header.header_length <= frame_size;
}

// --- Receive ---

void NetPair::receive(Queue& queue) {
    for (unsigned count = 0; count < kFramesPerWakeup; ++count) {
        if (!inbound_.may_pass()) {
            return watch_backend(false);  // until the limit lets the next frame in
        }
        switch (receive_frame(queue)) {
            case Received::Frame: break;
            case Received::NothingThere: watch_backend(true); return;
            case Received::NoBuffers: watch_backend(false); return;  // until the driver adds some
            case Received::TurnOver: watch_backend(true); return;
        }
    }
    watch_backend(true);  // still readable: the loop comes back after the other descriptors
}

NetPair::Received NetPair::receive_frame(Queue& queue) {
    const uint64_t room = gather(queue);
    if (room < receive_size_max() && queue.batch_full()) {
        return Received::TurnOver;
    }
    if (buffers_.empty()) {
        return Received::NoBuffers;
    }
    vectors_.clear();
    for (Chain& chain : buffers_) {
        chain.writable_vectors(0, chain.writable_size(), vectors_);
    }
    if (room < receive_size_max() || vectors_.size() > kVectorCountMax) {
        return receive_bounced();
    }
    const int64_t size = backend_->receive(vectors_);
    if (size < 0) {
        return Received::NothingThere;
    }
    if (!filtered(vectors_, static_cast<uint64_t>(size))) {
        deliver(static_cast<uint64_t>(size));
    }
    return Received::Frame;
}

NetPair::Received NetPair::receive_bounced() {
    bounce_.resize(kHeaderSize + kFrameBytesMax);
    const iovec whole{bounce_.data(), bounce_.size()};
    const int64_t result = backend_->receive(std::span(&whole, 1));
    if (result < 0) {
        return Received::NothingThere;
    }
    const auto size = static_cast<uint64_t>(result);
    if (filtered(std::span(&whole, 1), size)) {
        return Received::Frame;
    }
    if (size > buffered_bytes_) {
        counters_.rx_dropped.increment();
        return Received::Frame;
    }
    std::span<const std::byte> left = std::span(bounce_).first(size);
    for (Chain& chain : buffers_) {
        left = left.subspan(chain.copy_in(0, left));
    }
    deliver(size);
    return Received::Frame;
}

// One buffer without mergeable buffers, else as many as the largest frame may need (§5.1.6.3.1).
uint64_t NetPair::gather(Queue& queue) {
    const bool mergeable = (negotiated_ & kMergeableBuffers) != 0;
    while (buffered_bytes_ < receive_size_max() && (mergeable || buffers_.empty())) {
        auto chain = queue.next_chain();
        if (!chain) {
            break;
        }
        if (!chain->readable().empty() || chain->writable_size() < kHeaderSize) {
            counters_.malformed.increment();
            continue;
        }
        buffered_bytes_ += chain->writable_size();
        buffers_.push_back(std::move(*chain));
    }
    return buffered_bytes_;
}

// Whether the guest does not want the frame that was read into `vectors`. What decides is copied
// first: it may lie in the guest's memory.
bool NetPair::filtered(std::span<const iovec> vectors, uint64_t size) {
    std::array<uint8_t, kHeaderSize + NetFilter::kHeadSize> start;
    const size_t wanted = std::min<size_t>(size, start.size());
    size_t copied = 0;
    for (const iovec& vector : vectors) {
        const size_t part = std::min(vector.iov_len, wanted - copied);
        std::memcpy(start.data() + copied, vector.iov_base, part);
        copied += part;
    }
    if (copied <= kHeaderSize ||
        filter_.accepts(std::span<const uint8_t>(start).first(copied).subspan(kHeaderSize))) {
        return false;  // too short to be a frame at all: dropped as that
    }
    counters_.rx_filtered.increment();
    return true;
}

// The frame is in the first buffers: tells the driver how many, and returns those.
void NetPair::deliver(uint64_t size) {
    if (size < kHeaderSize + kEthernetHeader) {
        counters_.rx_dropped.increment();
        return;
    }
    uint16_t count = 0;
    for (uint64_t covered = 0; covered < size; ++count) {
        covered += buffers_[count].writable_size();
    }
    buffers_.front().copy_in(kBufferCountAt, std::as_bytes(std::span(&count, 1)));
    if ((negotiated_ & kGuestChecksum) == 0) {
        const std::byte no_flags{0};  // §5.1.6.4.1: DATA_VALID and NEEDS_CSUM were not negotiated
        buffers_.front().copy_in(0, std::span(&no_flags, 1));
    }
    uint64_t left = size;
    for (uint16_t i = 0; i < count; ++i) {
        Chain& chain = buffers_.front();
        const uint64_t part = std::min(left, chain.writable_size());
        chain.add_used(static_cast<uint32_t>(part));
        left -= part;
        buffered_bytes_ -= chain.writable_size();
        buffers_.pop_front();
    }
    counters_.rx_frames.increment();
    counters_.rx_bytes.increment(size - kHeaderSize);
    inbound_.count(size - kHeaderSize);
}

uint64_t NetPair::receive_size_max() const {
    if ((negotiated_ & kGuestSegmentation) != 0) {
        return kHeaderSize + kFrameBytesMax;
    }
    return kHeaderSize + kEthernetHeader + kVlanTag + std::max<uint64_t>(mtu_, 1500);
}

void NetPair::watch_backend(bool enabled) {
    if (enabled == watching_ || (enabled && (paused_ || elsewhere_ || !active_))) {
        return;
    }
    watching_ = false;
    watch_.reset();
    if (!enabled) {
        return;
    }
    auto watch = context_->loop().watch(backend_->poll_fd(), EventLoop::kReadable,
                                        [this](uint32_t /*events*/) { backend_ready(); });
    if (!watch.ok()) {
        if (const auto unreported = reports_.admit()) {  // a driver may start it again and again
            log_error("virtio", "cannot receive",
                      {{"device", device_},
                       {"reason", watch.error().text()},
                       {"unreported", *unreported}});
        }
        return;
    }
    watch_ = std::move(watch).value();
    watching_ = true;
}

void NetPair::backend_ready() {
    if (!context_->serve_queue(receive_queue_)) {
        watch_backend(false);
    }
}

// --- Pause and reset ---

void NetPair::quiesce() {
    paused_ = true;
    if (context_ == nullptr) {
        return;
    }
    inbound_.stop();
    outbound_.stop();
    watch_backend(false);
    Queue* queue = context_->queue(receive_queue_);
    while (!buffers_.empty()) {
        queue->put_back(std::move(buffers_.back()));
        buffers_.pop_back();
    }
    buffered_bytes_ = 0;
}

void NetPair::stop() {
    context_ = nullptr;
    active_ = false;
    bounce_ = {};
}

}  // namespace kumoi::hypervisor
