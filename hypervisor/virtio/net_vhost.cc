#include "hypervisor/virtio/net_vhost.h"

#include <unistd.h>

#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

VhostNet::Ring ring_of(VirtioContext& context, uint16_t index, int call_fd) {
    const Queue& queue = *context.queue(index);
    const Queue::Rings rings = queue.rings();
    return {queue.size(),
            queue.position().next_available,
            rings.descriptors,
            rings.available,
            rings.used,
            context.doorbell(index),
            call_fd};
}

std::vector<MemoryRegion> all_ram(const GuestMemory& memory) {
    std::vector<MemoryRegion> regions = memory.regions();
    const auto plugged = memory.plugged_regions();
    regions.insert(regions.end(), plugged.begin(), plugged.end());
    return regions;
}

}  // namespace

NetVhost::NetVhost(std::string device, std::vector<std::unique_ptr<VhostNet>> pairs)
    : device_(std::move(device)) {
    for (auto& pair : pairs) {
        pairs_.emplace_back().vhost = std::move(pair);
    }
}

bool NetVhost::begin(VirtioContext& context, uint16_t index, int tap_fd) {
    if (index >= pairs_.size() || context.memory() == nullptr || tap_fd < 0 ||
        context.queue(2 * index) == nullptr || context.queue(2 * index + 1) == nullptr) {
        return false;
    }
    if (serves(index)) {
        return true;
    }
    auto begun = hand_over(context, index, tap_fd);
    if (!begun.ok()) {
        refused_.increment();
        for (auto& watch : pairs_[index].watches) {
            watch.reset();
        }
        log_warn("virtio", "vhost-net does not take a card's queues; they are served here",
                 {{"device", device_}, {"pair", index}, {"reason", begun.error().text()}});
        return false;
    }
    active_.fetch_add(1);
    return true;
}

Result<void> NetVhost::hand_over(VirtioContext& context, uint16_t index, int tap_fd) {
    Pair& pair = pairs_[index];
    for (UniqueFd& call : pair.calls) {
        if (!call.is_open()) {
            call = TRY(make_eventfd());
        }
    }
    TRY(watch_calls(context, index));
    TRY(pair.vhost->set_memory(all_ram(*context.memory())));
    const auto receive = static_cast<uint16_t>(2 * index);
    const auto transmit = static_cast<uint16_t>(receive + 1);
    return pair.vhost->start(context.features(), ring_of(context, receive, pair.calls[0].get()),
                             ring_of(context, transmit, pair.calls[1].get()), tap_fd);
}

Result<void> NetVhost::watch_calls(VirtioContext& context, uint16_t index) {
    Pair& pair = pairs_[index];
    for (uint16_t side = 0; side < 2; ++side) {
        const int fd = pair.calls[side].get();
        const auto queue = static_cast<uint16_t>(2 * index + side);
        pair.watches[side] = TRY(context.loop().watch(
            fd, EventLoop::kReadable, [&context, fd, queue](uint32_t /*events*/) {
                uint64_t count = 0;
                if (::read(fd, &count, sizeof(count)) == sizeof(count)) {
                    context.queue(queue)->interrupt_driver();
                }
            }));
    }
    return {};
}

void NetVhost::end(VirtioContext& context, uint16_t index) {
    if (!serves(index)) {
        return;
    }
    Pair& pair = pairs_[index];
    const auto positions = pair.vhost->stop();
    for (auto& watch : pair.watches) {
        watch.reset();
    }
    active_.fetch_sub(1);
    Queue& receive = *context.queue(2 * index);
    Queue& transmit = *context.queue(2 * index + 1);
    if (!positions.ok()) {  // where it stands nobody knows: the driver must begin anew
        receive.mark_broken(positions.error().text());
        transmit.mark_broken(positions.error().text());
        return;
    }
    receive.set_position({positions->receive, positions->receive});
    transmit.set_position({positions->transmit, positions->transmit});
    receive.interrupt_driver();  // what was rung after the watch had gone is not lost
    transmit.interrupt_driver();
}

Result<void> NetVhost::memory_changed(const std::vector<MemoryRegion>& regions) {
    for (Pair& pair : pairs_) {
        TRY(pair.vhost->set_memory(regions));
    }
    return {};
}

}  // namespace kumoi::hypervisor
