// QueueFake: the driver's side of one split virtqueue in guest memory, and DeviceFake, which runs a
// virtio device on the test's own thread: build a chain, kick, look at the used ring.
//
//     PlatformFake platform;
//     DeviceFake device(rng, platform.memory());
//     QueueFake& queue = device.add_queue(0, 8);
//     device.start();
//     const uint64_t buffer = queue.allocate(64);
//     queue.add({{buffer, 64, true}});
//     device.kick(0);
//     EXPECT_EQ(queue.used(0).length, 64u);
#pragma once

#include <atomic>
#include <deque>
#include <initializer_list>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "hypervisor/virtio/device.h"

namespace kumoi::hypervisor {

class QueueFake {
public:
    static constexpr uint16_t kNext = 1;
    static constexpr uint16_t kWrite = 2;
    static constexpr uint16_t kIndirect = 4;

    struct Buffer {
        uint64_t gpa = 0;
        uint32_t size = 0;
        bool writable = false;
    };
    struct Used {
        uint32_t head = 0;
        uint32_t length = 0;
    };

    // Rings at `gpa`, buffers behind them; 1 MiB is ours.
    QueueFake(GuestMemory& memory, uint16_t index, uint64_t gpa, uint16_t size)
        : memory_(memory), index_(index), size_(size), base_(gpa), next_buffer_(gpa + 0x10000) {}

    QueueConfig config() const {
        return {index_, size_, descriptor_gpa(0), available_gpa(), used_gpa()};
    }
    uint16_t size() const { return size_; }
    uint64_t descriptor_gpa(uint16_t index) const { return base_ + 16u * index; }
    uint64_t available_gpa() const { return base_ + 0x8000; }
    uint64_t used_gpa() const { return base_ + 0xa000; }

    uint64_t allocate(uint64_t size) {
        const uint64_t gpa = next_buffer_;
        next_buffer_ += (size + 15) & ~uint64_t{15};
        return gpa;
    }
    uint64_t allocate(std::span<const std::byte> content) {
        const uint64_t gpa = allocate(content.size());
        put(gpa, content);
        return gpa;
    }

    // A chain of direct descriptors, made available. Returns its head.
    uint16_t add(std::initializer_list<Buffer> buffers) { return add(std::vector(buffers)); }
    uint16_t add(const std::vector<Buffer>& buffers) {
        const uint16_t head = next_descriptor_;
        for (size_t i = 0; i < buffers.size(); ++i) {
            const auto next = static_cast<uint16_t>((next_descriptor_ + 1) % size_);
            const bool last = i + 1 == buffers.size();
            set_descriptor(
                next_descriptor_, buffers[i].gpa, buffers[i].size,
                static_cast<uint16_t>((buffers[i].writable ? kWrite : 0) | (last ? 0 : kNext)),
                last ? 0 : next);
            next_descriptor_ = next;
        }
        make_available(head);
        return head;
    }
    // The same through an indirect table.
    uint16_t add_indirect(const std::vector<Buffer>& buffers) {
        const uint64_t table = allocate(16 * buffers.size());
        for (size_t i = 0; i < buffers.size(); ++i) {
            const bool last = i + 1 == buffers.size();
            write_descriptor(
                table + 16 * i, buffers[i].gpa, buffers[i].size,
                static_cast<uint16_t>((buffers[i].writable ? kWrite : 0) | (last ? 0 : kNext)),
                static_cast<uint16_t>(i + 1));
        }
        const uint16_t head = next_descriptor_;
        set_descriptor(head, table, static_cast<uint32_t>(16 * buffers.size()), kIndirect, 0);
        next_descriptor_ = static_cast<uint16_t>((head + 1) % size_);
        make_available(head);
        return head;
    }
    void set_descriptor(uint16_t index, uint64_t gpa, uint32_t size, uint16_t flags,
                        uint16_t next) {
        write_descriptor(descriptor_gpa(index), gpa, size, flags, next);
    }
    void write_descriptor(uint64_t at, uint64_t gpa, uint32_t size, uint16_t flags, uint16_t next) {
        store(at, gpa);
        store(at + 8, size);
        store(at + 12, flags);
        store(at + 14, next);
    }
    void make_available(uint16_t head) {
        store(available_gpa() + 4 + 2u * (available_ % size_), head);
        set_available_index(static_cast<uint16_t>(available_ + 1));
    }
    void set_available_index(uint16_t index) {
        available_ = index;
        word(available_gpa() + 2).store(index, std::memory_order_release);
    }
    void set_no_interrupt(bool on) { store<uint16_t>(available_gpa(), on ? 1 : 0); }
    void set_used_event(uint16_t index) { store(available_gpa() + 4 + 2u * size_, index); }
    uint16_t available_event() const { return load<uint16_t>(used_gpa() + 4 + 8u * size_); }
    bool notifications_wanted() const { return load<uint16_t>(used_gpa()) == 0; }

    uint16_t used_index() const { return word(used_gpa() + 2).load(std::memory_order_acquire); }
    Used used(uint16_t index) const {
        const uint64_t at = used_gpa() + 4 + 8u * (index % size_);
        return {load<uint32_t>(at), load<uint32_t>(at + 4)};
    }

    void put(uint64_t gpa, std::span<const std::byte> bytes) { memory_.write(gpa, bytes).value(); }
    std::vector<std::byte> get(uint64_t gpa, size_t size) const {
        std::vector<std::byte> bytes(size);
        memory_.read(gpa, bytes).value();
        return bytes;
    }
    template <class T>
    void store(uint64_t gpa, T value) {
        memory_.store(gpa, value).value();
    }
    template <class T>
    T load(uint64_t gpa) const {
        return memory_.load<T>(gpa).value();
    }

private:
    // The indexes are shared with the device's thread.
    std::atomic_ref<uint16_t> word(uint64_t gpa) const {
        return std::atomic_ref<uint16_t>(
            *reinterpret_cast<uint16_t*>(memory_.host_span(gpa, 2).value().data()));
    }

    GuestMemory& memory_;
    const uint16_t index_;
    const uint16_t size_;
    const uint64_t base_;
    uint64_t next_buffer_;
    uint16_t next_descriptor_ = 0;
    uint16_t available_ = 0;
};

// What DeviceRunner is to a device in a machine, on the caller's thread.
class DeviceFake final : public VirtioContext, private QueueEvents {
public:
    DeviceFake(VirtioDevice& device, GuestMemory& memory, uint64_t rings_gpa = 0x100000)
        : device_(device), memory_(memory), next_gpa_(rings_gpa), loop_(clock_) {}
    ~DeviceFake() override { stop(); }

    QueueFake& add_queue(uint16_t index, uint16_t size) {
        drivers_.emplace_back(memory_, index, next_gpa_, size);
        next_gpa_ += 0x100000;
        return drivers_.back();
    }
    Result<void> start(uint64_t features = ~uint64_t{0} & ~virtio::kFeatureEventIndex) {
        features_ = features & (device_.features() | virtio::kFeatureVersion1 |
                                virtio::kFeatureIndirectDescriptors | virtio::kFeatureEventIndex);
        queues_.resize(device_.queue_sizes().size());
        for (QueueFake& driver : drivers_) {
            const QueueConfig config = driver.config();
            queues_[config.index] = TRY(Queue::create(memory_, config, features_, *this));
        }
        started_ = true;
        TRY(device_.start(*this));
        for (auto& queue : queues_) {
            if (queue) {
                TRY(device_.start_queue(*queue));
            }
        }
        return {};
    }
    // The driver notifies; the device takes turns until it has nothing to do.
    void kick(uint16_t index) {
        run_queue(index);
        run_pending();
    }
    void run_pending() {
        for (int turn = 0; turn < 1000 && !pending_.empty(); ++turn) {
            const uint16_t index = *pending_.begin();
            pending_.erase(pending_.begin());
            serve_queue(index);
        }
    }
    // Waits for everything in flight, as a pause would, and goes on.
    void settle() {
        do {
            quiesce();
            device_.resume();
            run_pending();
        } while (in_flight() > 0 && --settle_turns_left_ > 0);
        settle_turns_left_ = 1000;
    }
    void stop() {
        if (started_) {
            quiesce();
            for (auto& queue : queues_) {
                if (queue) {
                    device_.stop_queue(*queue);
                }
            }
            device_.stop();
            queues_.clear();
            started_ = false;
        }
    }
    // Timers and completions that are due.
    void run_loop() {
        loop_.run_ready();
        run_pending();
    }
    void advance(int64_t nanoseconds) { clock_.advance(nanoseconds); }
    void quiesce() {
        for (auto& queue : queues_) {
            if (queue) {
                device_.quiesce_queue(*queue);
            }
        }
        device_.quiesce();
        for (auto& queue : queues_) {
            if (queue) {
                queue->publish();
            }
        }
    }
    uint16_t in_flight() const {
        uint16_t count = 0;
        for (const auto& queue : queues_) {
            count = static_cast<uint16_t>(count + (queue ? queue->in_flight() : 0));
        }
        return count;
    }

    EventLoop& loop() override { return loop_; }
    const Clock& clock() const override { return clock_; }
    Queue* queue(uint16_t index) override {
        return index < queues_.size() ? queues_[index].get() : nullptr;
    }
    uint64_t features() const override { return features_; }
    bool serve_queue(uint16_t index) override {
        Queue* served = queue(index);
        if (served == nullptr || !broken_reasons.empty()) {
            return false;
        }
        served->begin_batch();
        device_.process_queue(*served);
        served->publish();
        if (served->ran_dry() && served->rearm()) {
            run_queue(index);
        }
        return true;
    }
    void run_queue(uint16_t index) override { pending_.insert(index); }
    void config_changed() override { ++config_changes; }

    uint64_t statistic(const std::string& name) const {
        for (const Statistic& statistic : device_.statistics()) {
            if (statistic.name == name) {
                return statistic.value;
            }
        }
        return ~uint64_t{0};
    }

    int interrupts = 0;
    int config_changes = 0;
    std::vector<std::string> broken_reasons;

private:
    void queue_used(uint16_t /*queue_index*/) override { ++interrupts; }
    void queue_broken(uint16_t /*queue_index*/, std::string_view reason) override {
        broken_reasons.emplace_back(reason);
    }

    VirtioDevice& device_;
    GuestMemory& memory_;
    uint64_t next_gpa_;
    ManualClock clock_;
    EventLoop loop_;
    std::deque<QueueFake> drivers_;  // deque: references stay valid
    std::vector<std::unique_ptr<Queue>> queues_;
    std::set<uint16_t> pending_;
    uint64_t features_ = 0;
    bool started_ = false;
    int settle_turns_left_ = 1000;
};

inline std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text));
}

}  // namespace kumoi::hypervisor
