// What the virtio device fuzzers share: input bytes become driver actions on a DeviceFake. One
// action: an opcode byte and its operands; descriptors point into a scratch area that input bytes
// fill.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <span>
#include <vector>

#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {

class FuzzInput {
public:
    FuzzInput(const uint8_t* data, size_t size) : left_(data, size) {}
    bool empty() const { return left_.empty(); }
    template <class T>
    T take() {
        T value{};
        const size_t count = std::min(sizeof(T), left_.size());
        std::copy_n(left_.begin(), count, reinterpret_cast<uint8_t*>(&value));
        left_ = left_.subspan(count);
        return value;
    }
    std::span<const std::byte> bytes(size_t size) {
        const auto part = left_.first(std::min(size, left_.size()));
        left_ = left_.subspan(part.size());
        return std::as_bytes(part);
    }

private:
    std::span<const uint8_t> left_;
};

// Drives `device` until the input ends. Aborts when something stays in flight.
// `started`: once it has a driver.
inline void fuzz_device(
    VirtioDevice& device, PlatformFake& platform, FuzzInput& input,
    const std::function<void()>& started = [] {}) {
    constexpr uint64_t kScratch = 0x800000;
    constexpr int kActionsMax = 200;
    GuestMemory& memory = platform.memory();
    DeviceFake fake(device, memory);
    std::vector<QueueFake*> queues;
    for (uint16_t index = 0; index < device.queue_sizes().size(); ++index) {
        memory.fill(0x100000 + index * 0x100000u, 0xc000, std::byte{0}).value();
        queues.push_back(&fake.add_queue(index, 16));
    }
    if (!fake.start(input.take<uint64_t>() | virtio::kFeatureVersion1).ok()) {
        return;
    }
    started();
    for (int action = 0; action < kActionsMax && !input.empty(); ++action) {
        const auto opcode = input.take<uint8_t>();
        QueueFake& queue = *queues[(opcode >> 4) % queues.size()];
        switch (opcode & 7) {
            case 0: {  // content
                const auto at = input.take<uint16_t>();
                memory.write(kScratch + at, input.bytes(input.take<uint8_t>())).value();
                break;
            }
            case 1: {  // a well formed chain
                std::vector<QueueFake::Buffer> buffers;
                const unsigned count = 1 + input.take<uint8_t>() % 6;
                const unsigned readable = input.take<uint8_t>() % (count + 1);
                for (unsigned i = 0; i < count; ++i) {
                    buffers.push_back(
                        {kScratch + input.take<uint16_t>(), input.take<uint16_t>(), i >= readable});
                }
                (opcode & 8) != 0 ? queue.add_indirect(buffers) : queue.add(buffers);
                break;
            }
            case 2:  // any descriptor
                queue.set_descriptor(input.take<uint8_t>() % 16, input.take<uint64_t>(),
                                     input.take<uint32_t>(), input.take<uint16_t>(),
                                     input.take<uint16_t>());
                break;
            case 3: queue.make_available(input.take<uint8_t>() % 17); break;
            case 4: fake.kick(static_cast<uint16_t>((opcode >> 4) % queues.size())); break;
            case 5: fake.settle(); break;
            case 6: {
                std::vector<uint8_t> bytes(1 + input.take<uint8_t>() % 16);
                device.read_config(input.take<uint32_t>(), bytes);
                device.write_config(input.take<uint32_t>(), bytes);
                break;
            }
            default:
                fake.advance(kNanosPerMilli);
                fake.run_loop();
                break;
        }
    }
    fake.settle();
    fake.quiesce();
    if (fake.in_flight() != 0) {
        std::abort();
    }
}

}  // namespace kumoi::hypervisor
