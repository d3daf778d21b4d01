#include "hypervisor/virtio/net.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/log.h"
#include "hypervisor/net/announcement.h"

namespace kumoi::hypervisor {

using namespace virtio_net;

namespace {

// §5.1.4: struct virtio_net_config up to mtu.
struct [[gnu::packed]] Config {
    MacAddress mac;
    uint16_t status;
    uint16_t max_virtqueue_pairs;
    uint16_t mtu;
};

uint64_t bit(bool set, uint64_t mask) {
    return set ? mask : 0;
}

}  // namespace

VirtioNet::VirtioNet(Options options, std::vector<std::unique_ptr<NetBackend>> backends,
                     std::vector<std::unique_ptr<VhostNet>> vhost)
    : options_(std::move(options)),
      control_(options_.mac, static_cast<uint16_t>(backends.size()),
               {.set_offloads = [this](uint64_t features) { return set_offloads(features); },
                .set_pairs = [this](uint16_t count) { return set_pairs(count); }}),
      vhost_(std::make_shared<NetVhost>(options_.name, std::move(vhost))) {
    for (auto& backend : backends) {
        pairs_.push_back(std::make_unique<NetPair>(
            options_.name, static_cast<uint16_t>(2 * pairs_.size()), options_.mtu,
            std::move(backend), control_.filter(), throttle_, counters_));
    }
}

VirtioNet::~VirtioNet() = default;

uint64_t VirtioNet::features() const {
    const NetOffloads can = pairs_.front()->backend().supported();
    uint64_t bits = kMac | kMtu | kStatus | kMergeableBuffers | kControlQueue | kControlReceive |
                    kControlVlan | kControlReceiveExtra | kControlMac | kGuestAnnounce |
                    bit(pairs_.size() > 1, kMultiQueue);
    if (!can.checksum) {
        return bits;  // every other offload needs it (§5.1.3.1)
    }
    bits |= kChecksum | kGuestChecksum | kControlGuestOffloads;
    bits |= bit(can.tso4, kGuestTso4 | kHostTso4);
    bits |= bit(can.tso6, kGuestTso6 | kHostTso6);
    bits |= bit(can.ufo, kGuestUfo | kHostUfo);
    bits |= bit(can.uso, kGuestUso4 | kGuestUso6 | kHostUso);
    return bits;
}

std::vector<uint16_t> VirtioNet::queue_sizes() const {
    std::vector<uint16_t> sizes(2 * pairs_.size(), options_.queue_size);
    sizes.push_back(kControlQueueSize);
    return sizes;
}

// §5.1.2: behind all pairs, or behind the only one a driver without MQ knows.
uint16_t VirtioNet::control_queue() const {
    const bool multi = (context_->features() & kMultiQueue) != 0;
    return static_cast<uint16_t>(multi ? 2 * pairs_.size() : 2);
}

void VirtioNet::read_config(uint32_t offset, std::span<uint8_t> out) const {
    const auto status =
        static_cast<uint16_t>(kLinkUp | (control_.announcing() ? kAnnounce : uint16_t{0}));
    const Config config{control_.mac(), status, static_cast<uint16_t>(pairs_.size()), options_.mtu};
    std::array<uint8_t, sizeof(Config)> bytes;
    std::memcpy(bytes.data(), &config, sizeof(config));
    read_config_bytes(bytes, offset, out);
}

void VirtioNet::announce() {
    const std::lock_guard lock(context_mutex_);
    if (context_ == nullptr) {
        return;  // no driver: nothing of it is on the network
    }
    if ((context_->features() & kGuestAnnounce) != 0) {
        control_.set_announcing(true);
        context_->config_changed();
    }
    context_->loop().post([this] {
        auto frame = rarp_frame(control_.mac());
        const iovec whole{frame.data(), frame.size()};
        (void)pairs_.front()->backend().send(std::span(&whole, 1));  // lost: there are more rounds
    });
}

size_t VirtioNet::drop_waiting_frames() {
    constexpr size_t kFramesMax = 4096;  // a TAP holds 1000 where nobody has said otherwise
    size_t count = 0;
    for (const auto& pair : pairs_) {
        count += pair->backend().drop_waiting(kFramesMax);
    }
    return count;
}

Result<void> VirtioNet::set_limits(const NicLimits& limits, int64_t now_ns) {
    TRY(check_limits(limits));
    if (vhost_->configured() && limits != NicLimits{}) {
        return Error::unsupported("{} is carried by vhost-net, which knows no limits",
                                  options_.name)
            .with_hint("set the card's \"vhost\" to \"off\"");
    }
    throttle_.set(limits, now_ns);
    return {};
}

Result<void> VirtioNet::start(VirtioContext& context) {
    {
        const std::lock_guard lock(context_mutex_);
        context_ = &context;
    }
    control_.begin(context.features());
    TRY(pairs_.front()->backend().set_offloads(offloads_of(control_.offloads())));
    for (size_t i = 0; i < pairs_.size(); ++i) {
        const bool active = i < control_.pairs();
        if (i > 0) {
            TRY(pairs_[i]->backend().set_active(active));
        }
        pairs_[i]->start(context, active);
    }
    return {};
}

// Before the first turn: nothing is in flight here, and guest memory is whole. All pairs or none:
// the doorbells of those that are served here are watched next, and only then.
void VirtioNet::begin_serving() {
    // Nobody would mark what the kernel writes to guest memory.
    bool elsewhere = vhost_->configured() && !context_->memory()->marking();
    for (uint16_t i = 0; elsewhere && i < control_.pairs(); ++i) {
        elsewhere = vhost_->begin(*context_, i, pairs_[i]->backend().vhost_fd());
    }
    for (uint16_t i = 0; i < control_.pairs(); ++i) {
        if (!elsewhere) {
            vhost_->end(*context_, i);
        }
        pairs_[i]->set_served_elsewhere(elsewhere);
    }
}

bool VirtioNet::served_elsewhere(uint16_t queue_index) const {
    return queue_index != control_queue() && vhost_->serves(queue_index / 2);
}

void VirtioNet::process_queue(Queue& queue) {
    const uint16_t index = queue.index();
    if (index == control_queue()) {
        while (auto chain = queue.next_chain()) {
            control_.process(*chain);
        }
        return;
    }
    const size_t pair = index / 2;
    if (pair >= control_.pairs()) {
        return;  // its turn comes when the driver asks for it
    }
    index % 2 == 0 ? pairs_[pair]->receive(queue) : pairs_[pair]->transmit(queue);
}

bool VirtioNet::set_pairs(uint16_t count) {
    for (size_t i = 1; i < pairs_.size(); ++i) {
        const bool active = i < count;
        if (!switch_pair(static_cast<uint16_t>(i), active)) {
            return false;
        }
        pairs_[i]->set_active(active);
        if (active) {
            context_->run_queue(static_cast<uint16_t>(2 * i));
            context_->run_queue(static_cast<uint16_t>(2 * i + 1));
        }
    }
    return true;
}

// A pair is with the kernel exactly when the first one is.
bool VirtioNet::switch_pair(uint16_t index, bool active) {
    NetPair& pair = *pairs_[index];
    if (!active) {
        vhost_->end(*context_, index);
        pair.set_served_elsewhere(false);
    }
    if (auto set = pair.backend().set_active(active); !set.ok()) {
        log_warn("virtio", "queues cannot be switched",
                 {{"device", options_.name}, {"reason", set.error().text()}});
        return false;
    }
    if (active && vhost_->serves(0)) {
        if (!vhost_->begin(*context_, index, pair.backend().vhost_fd())) {
            (void)pair.backend().set_active(false);
            return false;
        }
        pair.set_served_elsewhere(true);
    }
    return true;
}

bool VirtioNet::set_offloads(uint64_t features) {
    return pairs_.front()->backend().set_offloads(offloads_of(features)).ok();
}

void VirtioNet::quiesce() {
    for (uint16_t i = 0; context_ != nullptr && i < pairs_.size(); ++i) {
        vhost_->end(*context_, i);
    }
    for (const auto& pair : pairs_) {
        pair->quiesce();
    }
}

void VirtioNet::resume() {
    for (const auto& pair : pairs_) {
        pair->resume();
    }
}

void VirtioNet::stop() {
    for (const auto& pair : pairs_) {
        pair->stop();
    }
    control_.reset();
    const std::lock_guard lock(context_mutex_);
    context_ = nullptr;
}

DeviceStatistics VirtioNet::statistics() const {
    return {{"rx_frames", counters_.rx_frames.value()},
            {"rx_bytes", counters_.rx_bytes.value()},
            {"rx_dropped", counters_.rx_dropped.value()},
            {"rx_filtered", counters_.rx_filtered.value()},
            {"tx_frames", counters_.tx_frames.value()},
            {"tx_bytes", counters_.tx_bytes.value()},
            {"tx_dropped", counters_.tx_dropped.value()},
            {"rx_throttled", counters_.rx_throttled.value()},
            {"tx_throttled", counters_.tx_throttled.value()},
            {"queue_pairs", control_.pairs()},
            {"vhost", vhost_->active() ? 1u : 0u},
            {"vhost_refused", vhost_->refused_count()},
            {"control_commands", control_.command_count()},
            {"control_refused", control_.refused_count()},
            {"malformed_chains", counters_.malformed.value()}};
}

}  // namespace kumoi::hypervisor
