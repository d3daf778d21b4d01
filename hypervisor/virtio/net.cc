#include "hypervisor/virtio/net.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace kumoi::hypervisor {

struct VirtioNet::Header {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t header_length;
    uint16_t gso_size;
    uint16_t checksum_start;
    uint16_t checksum_offset;
    uint16_t buffer_count;
};

namespace {

// §5.1.3: feature bits.
constexpr uint64_t kFeatureChecksum = 1ull << 0;
constexpr uint64_t kFeatureGuestChecksum = 1ull << 1;
constexpr uint64_t kFeatureMtu = 1ull << 3;
constexpr uint64_t kFeatureMac = 1ull << 5;
constexpr uint64_t kFeatureGuestTso4 = 1ull << 7;
constexpr uint64_t kFeatureGuestTso6 = 1ull << 8;
constexpr uint64_t kFeatureGuestUfo = 1ull << 10;
constexpr uint64_t kFeatureHostTso4 = 1ull << 11;
constexpr uint64_t kFeatureHostTso6 = 1ull << 12;
constexpr uint64_t kFeatureHostUfo = 1ull << 14;
constexpr uint64_t kFeatureMergeableBuffers = 1ull << 15;
constexpr uint64_t kFeatureStatus = 1ull << 16;
constexpr uint64_t kFeatureGuestUso4 = 1ull << 54;
constexpr uint64_t kFeatureGuestUso6 = 1ull << 55;
constexpr uint64_t kFeatureHostUso = 1ull << 56;
constexpr uint64_t kGuestSegmentation = kFeatureGuestTso4 | kFeatureGuestTso6 | kFeatureGuestUfo |
                                        kFeatureGuestUso4 | kFeatureGuestUso6;

// §5.1.6: header flags and segmentation types.
constexpr uint8_t kNeedsChecksum = 1;
constexpr uint8_t kGsoNone = 0;
constexpr uint8_t kGsoTcp4 = 1;
constexpr uint8_t kGsoUdp = 3;
constexpr uint8_t kGsoTcp6 = 4;
constexpr uint8_t kGsoUdpL4 = 5;

constexpr uint64_t kHeaderSize = NetBackend::kHeaderSize;
constexpr uint64_t kBufferCountAt = 10;  // in the header
constexpr uint64_t kEthernetHeader = 14;
constexpr uint64_t kVlanTag = 4;
constexpr size_t kVectorCountMax = 1024;  // IOV_MAX

// §5.1.4: struct virtio_net_config up to mtu.
struct [[gnu::packed]] Config {
    std::array<uint8_t, 6> mac;
    uint16_t status;
    uint16_t max_virtqueue_pairs;
    uint16_t mtu;
};
constexpr uint16_t kLinkUp = 1;

uint64_t bit(bool set, uint64_t mask) {
    return set ? mask : 0;
}

uint64_t feature_of(uint8_t gso_type) {
    switch (gso_type) {
        case kGsoTcp4: return kFeatureHostTso4;
        case kGsoTcp6: return kFeatureHostTso6;
        case kGsoUdp: return kFeatureHostUfo;
        case kGsoUdpL4: return kFeatureHostUso;
        default: return 0;
    }
}

}  // namespace

VirtioNet::VirtioNet(std::string name, std::unique_ptr<NetBackend> backend, const MacAddress& mac,
                     uint16_t mtu, uint16_t queue_size)
    : name_(std::move(name)),
      mac_(mac),
      mtu_(mtu),
      queue_size_(queue_size),
      backend_(std::move(backend)) {}

VirtioNet::~VirtioNet() = default;

uint64_t VirtioNet::features() const {
    const NetOffloads can = backend_->supported();
    uint64_t bits = kFeatureMac | kFeatureMtu | kFeatureStatus | kFeatureMergeableBuffers;
    if (!can.checksum) {
        return bits;  // every other offload needs it (§5.1.3.1)
    }
    bits |= kFeatureChecksum | kFeatureGuestChecksum;
    bits |= bit(can.tso4, kFeatureGuestTso4 | kFeatureHostTso4);
    bits |= bit(can.tso6, kFeatureGuestTso6 | kFeatureHostTso6);
    bits |= bit(can.ufo, kFeatureGuestUfo | kFeatureHostUfo);
    bits |= bit(can.uso, kFeatureGuestUso4 | kFeatureGuestUso6 | kFeatureHostUso);
    return bits;
}

void VirtioNet::read_config(uint32_t offset, std::span<uint8_t> out) const {
    const Config config{mac_, kLinkUp, 1, mtu_};
    std::array<uint8_t, sizeof(Config)> bytes;
    std::memcpy(bytes.data(), &config, sizeof(config));
    read_config_bytes(bytes, offset, out);
}

NetOffloads VirtioNet::guest_offloads() const {
    const auto has = [this](uint64_t mask) { return (negotiated_ & mask) == mask; };
    NetOffloads offloads;
    offloads.checksum = has(kFeatureGuestChecksum);
    if (offloads.checksum) {
        offloads.tso4 = has(kFeatureGuestTso4);
        offloads.tso6 = has(kFeatureGuestTso6);
        offloads.ufo = has(kFeatureGuestUfo);
        offloads.uso = has(kFeatureGuestUso4 | kFeatureGuestUso6);
    }
    return offloads;
}

Result<void> VirtioNet::start(VirtioContext& context) {
    context_ = &context;
    negotiated_ = context.features();
    paused_ = false;
    TRY(backend_->set_offloads(guest_offloads()));
    watch_backend(context.queue(kReceiveQueue) != nullptr);
    return {};
}

void VirtioNet::process_queue(Queue& queue) {
    if (queue.index() == kTransmitQueue) {
        transmit(queue);
    } else {
        receive(queue);
    }
}

// --- Transmit ---

void VirtioNet::transmit(Queue& queue) {
    while (auto chain = queue.next_chain()) {
        transmit_chain(*chain);
    }
}

void VirtioNet::transmit_chain(Chain& chain) {
    Header header{};
    const uint64_t size = chain.readable_size();
    if (!chain.writable().empty() || size < kHeaderSize + kEthernetHeader ||
        size > kHeaderSize + kFrameBytesMax) {
        malformed_.increment();
        return;
    }
    chain.copy_out(0, std::as_writable_bytes(std::span(&header, 1)));
    vectors_.assign(1, {&header, kHeaderSize});
    chain.readable_vectors(kHeaderSize, size - kHeaderSize, vectors_);
    if (!sanitise(header, size - kHeaderSize) || vectors_.size() > kVectorCountMax) {
        malformed_.increment();
        return;
    }
    // A full backend loses the frame, as a full cable would; waiting would let one guest's speed
    // decide how long its buffers stay with us.
    if (backend_->send(vectors_) < 0) {
        tx_dropped_.increment();
        return;
    }
    tx_frames_.increment();
    tx_bytes_.increment(size - kHeaderSize);
}

// §5.1.6.2: what a driver may put into a header, given what was negotiated. Fields that mean
// nothing without their flag are cleared, so that the host's kernel sees only what was checked.
bool VirtioNet::sanitise(Header& header, uint64_t frame_size) const {
    header.flags &= kNeedsChecksum;
    header.buffer_count = 0;
    if ((header.flags & kNeedsChecksum) != 0) {
        const uint64_t end = uint64_t{header.checksum_start} + header.checksum_offset + 2;
        if ((negotiated_ & kFeatureChecksum) == 0 || end > frame_size) {
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

void VirtioNet::receive(Queue& queue) {
    for (unsigned count = 0; count < kFramesPerWakeup; ++count) {
        switch (receive_frame(queue)) {
            case Received::Frame: break;
            case Received::NothingThere: watch_backend(true); return;
            case Received::NoBuffers: watch_backend(false); return;  // until the driver adds some
            case Received::TurnOver: watch_backend(true); return;
        }
    }
    watch_backend(true);  // still readable: the loop comes back after the other descriptors
}

VirtioNet::Received VirtioNet::receive_frame(Queue& queue) {
    const uint64_t room = gather(queue);
    if (room < receive_size_max() && queue.batch_full()) {
        return Received::TurnOver;
    }
    if (buffers_.empty()) {
        return Received::NoBuffers;
    }
    vectors_.clear();
    for (const Chain& chain : buffers_) {
        chain.writable_vectors(0, chain.writable_size(), vectors_);
    }
    if (room < receive_size_max() || vectors_.size() > kVectorCountMax) {
        return receive_bounced();
    }
    const int64_t size = backend_->receive(vectors_);
    if (size < 0) {
        return Received::NothingThere;
    }
    deliver(static_cast<uint64_t>(size));
    return Received::Frame;
}

VirtioNet::Received VirtioNet::receive_bounced() {
    bounce_.resize(kHeaderSize + kFrameBytesMax);
    const iovec whole{bounce_.data(), bounce_.size()};
    const int64_t result = backend_->receive(std::span(&whole, 1));
    if (result < 0) {
        return Received::NothingThere;
    }
    const auto size = static_cast<uint64_t>(result);
    if (size > buffered_bytes_) {
        rx_dropped_.increment();
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
uint64_t VirtioNet::gather(Queue& queue) {
    const bool mergeable = (negotiated_ & kFeatureMergeableBuffers) != 0;
    while (buffered_bytes_ < receive_size_max() && (mergeable || buffers_.empty())) {
        auto chain = queue.next_chain();
        if (!chain) {
            break;
        }
        if (!chain->readable().empty() || chain->writable_size() < kHeaderSize) {
            malformed_.increment();
            continue;
        }
        buffered_bytes_ += chain->writable_size();
        buffers_.push_back(std::move(*chain));
    }
    return buffered_bytes_;
}

// The frame is in the first buffers: tells the driver how many, and returns those.
void VirtioNet::deliver(uint64_t size) {
    if (size < kHeaderSize + kEthernetHeader) {
        rx_dropped_.increment();
        return;
    }
    uint16_t count = 0;
    for (uint64_t covered = 0; covered < size; ++count) {
        covered += buffers_[count].writable_size();
    }
    buffers_.front().copy_in(kBufferCountAt, std::as_bytes(std::span(&count, 1)));
    if ((negotiated_ & kFeatureGuestChecksum) == 0) {
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
    rx_frames_.increment();
    rx_bytes_.increment(size - kHeaderSize);
}

uint64_t VirtioNet::receive_size_max() const {
    if ((negotiated_ & kGuestSegmentation) != 0) {
        return kHeaderSize + kFrameBytesMax;
    }
    return kHeaderSize + kEthernetHeader + kVlanTag + std::max<uint64_t>(mtu_, 1500);
}

void VirtioNet::watch_backend(bool enabled) {
    if (enabled == watching_ || (enabled && paused_)) {
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
        log_error("virtio", "cannot receive",
                  {{"device", name_}, {"reason", watch.error().text()}});
        return;
    }
    watch_ = std::move(watch).value();
    watching_ = true;
}

void VirtioNet::backend_ready() {
    if (!context_->serve_queue(kReceiveQueue)) {
        watch_backend(false);
    }
}

// --- Pause and reset ---

void VirtioNet::quiesce() {
    paused_ = true;
    if (context_ != nullptr) {
        watch_backend(false);
    }
    Queue* queue = context_ != nullptr ? context_->queue(kReceiveQueue) : nullptr;
    while (!buffers_.empty()) {
        queue->put_back(std::move(buffers_.back()));
        buffers_.pop_back();
    }
    buffered_bytes_ = 0;
}

void VirtioNet::resume() {
    paused_ = false;
}  // the turn of the receive queue watches again

void VirtioNet::stop() {
    context_ = nullptr;
    bounce_ = {};
}

DeviceStatistics VirtioNet::statistics() const {
    return {{"rx_frames", rx_frames_.value()},       {"rx_bytes", rx_bytes_.value()},
            {"rx_dropped", rx_dropped_.value()},     {"tx_frames", tx_frames_.value()},
            {"tx_bytes", tx_bytes_.value()},         {"tx_dropped", tx_dropped_.value()},
            {"malformed_chains", malformed_.value()}};
}

}  // namespace kumoi::hypervisor
