// Queue: one split virtqueue (virtio 1.2 §2.7) seen from the device's side.
//
// The guest owns the rings and may change any byte at any moment, so every descriptor is copied
// once and only the copy is checked and used. What the format forbids (an available index that
// jumps, a descriptor out of range, a loop, a nested indirect table, a buffer outside RAM, more
// bytes than allowed) breaks the queue: it hands out nothing more and tells its QueueEvents once.
// What a device type forbids is the device's business.
//
//     while (auto chain = queue.next_chain()) {        // at most size() of them per batch
//         chain->add_used(answer(chain->readable(), chain->writable()));
//     }                                                // the destructor puts the chain into the
//     used ring queue.publish();                                 // one used index, at most one
//     interrupt if (queue.rearm()) { /* more came meanwhile: run again */ }
//
// Threading: one thread, the device's I/O thread. Chains must be gone before the queue is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <sys/uio.h>

#include "base/metrics.h"
#include "base/result.h"
#include "hypervisor/memory/guest_memory.h"
#include "hypervisor/virtio/queue_core.h"
#include "hypervisor/virtio/spec.h"

namespace kumoi::hypervisor {

class Queue;

struct Descriptor {
    std::span<std::byte> bytes;  // guest RAM, checked; the guest may still write it
    bool writable = false;       // by the device
};

// What a queue tells its owner. Called on the I/O thread.
class QueueEvents {
public:
    virtual ~QueueEvents() = default;
    virtual void queue_used(uint16_t queue_index) = 0;  // the driver wants an interrupt
    virtual void queue_broken(uint16_t queue_index, std::string_view reason) = 0;
};

// One buffer from the driver: first what the device may read, then what it may write (§2.7.4.2).
// Move-only; returned to the used ring when destroyed.
class Chain {
public:
    Chain(Chain&& other) noexcept;
    Chain& operator=(Chain&& other) noexcept;
    Chain(const Chain&) = delete;
    Chain& operator=(const Chain&) = delete;
    ~Chain();

    std::span<const Descriptor> descriptors() const { return descriptors_; }
    std::span<const Descriptor> readable() const { return descriptors().first(readable_count_); }
    std::span<const Descriptor> writable() const { return descriptors().subspan(readable_count_); }
    uint64_t readable_size() const { return readable_size_; }
    uint64_t writable_size() const { return writable_size_; }

    // Copies between our memory and the readable or writable part, from byte `offset` of that part.
    // Returns how many bytes there were.
    size_t copy_out(uint64_t offset, std::span<std::byte> out) const;
    size_t copy_in(uint64_t offset, std::span<const std::byte> bytes);
    // Whoever writes to writable() himself counts what he wrote with add_used(): that, and all that
    // writable_vectors() gave out, is what a migration sees as written.
    // Appends [offset, offset + size) of that part as I/O vectors; returns the bytes covered.
    uint64_t readable_vectors(uint64_t offset, uint64_t size, std::vector<iovec>& out) const;
    uint64_t writable_vectors(uint64_t offset, uint64_t size, std::vector<iovec>& out);

    // Counts bytes the device has written from the start of the writable part (§2.7.8).
    void add_used(uint32_t bytes) { used_bytes_ += bytes; }
    uint16_t head() const { return head_; }

private:
    friend class Queue;
    Chain(Queue& queue, uint16_t head) : queue_(&queue), head_(head) {}
    void give_back();
    void mark_written() const;

    Queue* queue_;
    uint16_t head_;
    uint32_t used_bytes_ = 0;
    size_t readable_count_ = 0;
    uint64_t readable_size_ = 0;
    uint64_t writable_size_ = 0;
    uint64_t lent_end_ = 0;  // of the writable part: somebody may have written before this byte
    std::vector<Descriptor> descriptors_;
};

struct QueueConfig {
    uint16_t index = 0;
    uint16_t size = 0;            // entries; a power of two
    uint64_t descriptor_gpa = 0;  // §2.7: 16-byte aligned
    uint64_t available_gpa = 0;   // 2-byte aligned
    uint64_t used_gpa = 0;        // 4-byte aligned
};

class Queue {
public:
    // Our limits; §2.7.4.2 allows 2^32 bytes. Linux makes indirect tables longer than the ring
    // (against §2.7.5.3.1), so they have a limit of their own.
    static constexpr uint64_t kChainBytesMax = KUMOI_QUEUE_CHAIN_BYTES_MAX;
    static constexpr uint32_t kIndirectCountMax = kQueueIndirectCountMax;

    // Resolves the rings once: alignment, size, and that each lies inside one region of RAM.
    static Result<std::unique_ptr<Queue>> create(GuestMemory& memory, const QueueConfig& config,
                                                 uint64_t features, QueueEvents& events);
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;
    ~Queue();

    // Starts a bounded turn: at most size() chains, and no notifications until rearm().
    void begin_batch();
    // Empty when the ring is empty, the batch is full or the queue is broken.
    std::optional<Chain> next_chain();
    bool batch_full() const { return batch_left_ == 0; }
    bool ran_dry() const { return ran_dry_; }  // next_chain() came back empty in this batch
    // Takes the newest chain back unused, as if never handed out. Newest first.
    void put_back(Chain chain);
    // Shows the driver all chains returned since the last call, and interrupts if it asked for
    // that.
    void publish();
    // Asks to be notified of new buffers; true when some are already there.
    bool rearm();
    void interrupt_driver() { events_.queue_used(index_); }  // unconditionally: after a resume
    void mark_broken(std::string_view reason);

    // Where the device stands in the rings while nothing is in flight: the state of a snapshot.
    struct Position {
        uint16_t next_available = 0;
        uint16_t next_used = 0;
    };
    Position position() const { return {next_available_, published_used_}; }
    void set_position(Position position);  // before the first batch

    // For somebody else who serves it (vhost-net) while nothing is in flight here.
    struct Rings {
        std::byte* descriptors;
        std::byte* available;
        std::byte* used;
    };
    Rings rings() const { return {descriptors_, available_, used_}; }

    uint16_t index() const { return index_; }
    uint16_t size() const { return size_; }
    bool broken() const { return broken_; }
    uint16_t in_flight() const { return in_flight_; }
    uint64_t chain_count() const { return chains_.value(); }  // any thread

private:
    friend class Chain;
    Queue(GuestMemory& memory, const QueueConfig& config, uint64_t features, QueueEvents& events);
    Result<void> resolve(const QueueConfig& config);
    uint16_t available_index() const;
    bool something_available();
    bool walk(Chain& chain, uint16_t first);
    bool refuse(std::string_view reason);
    void put_used(uint16_t head, uint32_t bytes);
    bool driver_wants_interrupt(uint16_t old_index, uint16_t new_index) const;
    void mark_used_ring(uint64_t offset, uint64_t size) const;

    std::vector<Descriptor> take_storage();
    void keep_storage(std::vector<Descriptor> storage);

    const uint16_t index_;
    const uint16_t size_;
    const bool event_index_;
    const bool indirect_;
    GuestMemory& memory_;
    QueueEvents& events_;
    std::byte* descriptors_ = nullptr;
    std::byte* available_ = nullptr;
    std::byte* used_ = nullptr;
    uint16_t next_available_ = 0;
    uint16_t seen_available_ = 0;  // the driver's index when we last looked
    uint16_t next_used_ = 0;       // where the next used element goes
    uint16_t published_used_ = 0;  // what the driver has been shown
    uint16_t in_flight_ = 0;
    uint16_t batch_left_ = 0;
    bool ran_dry_ = false;
    bool broken_ = false;
    Counter chains_;
    std::vector<std::vector<Descriptor>> spare_;  // storage of finished chains, used again
};

}  // namespace kumoi::hypervisor
