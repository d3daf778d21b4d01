// Fuzzes the walk of a split virtqueue: the input is the guest memory that holds the rings and the
// tables. Byte 0 chooses features and queue size, byte 1 how the memory changes between two steps.
// Whatever is handed out must lie in RAM and within the limits.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

constexpr uint64_t kRings = 0x10000;
constexpr size_t kStructured = 0x1000;

class Events final : public QueueEvents {
public:
    void queue_used(uint16_t /*queue_index*/) override {}
    void queue_broken(uint16_t /*queue_index*/, std::string_view /*reason*/) override { ++breaks; }
    int breaks = 0;
};

void require(bool condition) {
    if (!condition) {
        std::abort();
    }
}

void look_at(Chain& chain, const GuestMemory& memory) {
    const std::byte* begin = memory.regions()[0].host;
    uint64_t total = 0;
    bool writable_seen = false;
    for (const Descriptor& descriptor : chain.descriptors()) {
        require(descriptor.bytes.data() >= begin);
        require(descriptor.bytes.data() + descriptor.bytes.size() <= begin + memory.size());
        require(!writable_seen || descriptor.writable);
        writable_seen = descriptor.writable;
        total += descriptor.bytes.size();
    }
    require(total == chain.readable_size() + chain.writable_size());
    require(total <= Queue::kChainBytesMax);
    std::byte edge[64];
    chain.copy_out(0, edge);
    std::vector<iovec> vectors;
    require(chain.writable_vectors(3, 1000, vectors) <= 1000);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static PlatformFake platform(1u << 20);
    if (size < 4) {
        return 0;
    }
    GuestMemory& memory = platform.memory();
    const auto input = std::as_bytes(std::span(data, std::min<size_t>(size, 8192)));
    memory.fill(kRings, 0x8000, std::byte{0}).value();
    memory.write(kRings, input.subspan(4)).value();
    Events events;
    QueueConfig config;
    config.size = static_cast<uint16_t>(1u << (data[0] & 7));
    config.descriptor_gpa = kRings;
    config.available_gpa = kRings + 16u * config.size;
    config.used_gpa = kRings + 0x4000;
    const uint64_t features = virtio::kFeatureVersion1 |
                              ((data[0] & 8) != 0 ? virtio::kFeatureIndirectDescriptors : 0) |
                              ((data[0] & 16) != 0 ? virtio::kFeatureEventIndex : 0);
    auto queue = Queue::create(memory, config, features, events).value();
    std::vector<Chain> held;
    for (int turn = 0; turn < 4; ++turn) {
        queue->begin_batch();
        while (auto chain = queue->next_chain()) {
            look_at(*chain, memory);
            chain->add_used(static_cast<uint32_t>(chain->writable_size()));
            if ((data[1] & 1) != 0 && held.size() < 8) {
                held.push_back(std::move(*chain));
            }
        }
        queue->publish();
        queue->rearm();
        // The guest writes again: other descriptors, another index.
        memory.write(kRings + data[2] * 4u, input.subspan(size % kStructured % input.size()))
            .value();
        if ((data[1] & 2) != 0 && !held.empty()) {
            held.erase(held.begin());
        }
    }
    while (!held.empty()) {
        held.pop_back();
    }
    require(queue->in_flight() == 0);
    require(events.breaks <= 1);
    return 0;
}
