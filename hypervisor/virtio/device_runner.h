// DeviceRunner: the side of a virtio device that runs: its I/O threads, its queues, and the
// doorbells (eventfds) that wake them. The transport decides when; this decides how.
//
// start() at DRIVER_OK, stop() at reset, pause() and resume() around migration or a user's pause.
// When pause() or stop() has returned, nothing is in flight and no byte of guest memory is touched.
// resume() runs every queue and interrupts the driver once per queue, because a notification may
// have been lost. Threading: the verbs are serialised by the caller (the transport's lock); they
// wait for the I/O thread, which takes no lock of the caller's.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/metrics.h"
#include "base/result.h"
#include "hypervisor/virtio/device.h"
#include "hypervisor/virtio/io_thread.h"
#include "hypervisor/virtio/queue.h"

namespace kumoi::hypervisor {

// What a running device tells its transport; called on the I/O thread, must not wait for it.
class RunnerEvents {
public:
    virtual ~RunnerEvents() = default;
    virtual void queue_interrupt(uint16_t queue_index) = 0;
    virtual void config_interrupt() = 0;
    virtual void device_broken(std::string_view reason) = 0;
};

class DeviceRunner final : private VirtioContext, private QueueEvents {
public:
    // `queue_count` doorbells are made at once: they are what the machine maps to notify addresses.
    static Result<std::unique_ptr<DeviceRunner>> create(VirtioDevice& device, GuestMemory& memory,
                                                        RunnerEvents& events);
    ~DeviceRunner() override;

    using Positions = std::map<uint16_t, Queue::Position>;  // by queue index

    // Checks the rings of every given queue, then starts the device on its thread. `positions`:
    // where a restored device goes on in its rings; a fresh one starts at zero.
    Result<void> start(const std::vector<QueueConfig>& queues, uint64_t features,
                       const Positions& positions = {});
    // Of the queues that are enabled. Only while paused.
    Positions positions() const;
    void stop();
    void pause();
    void resume();
    bool running() const { return !threads_.empty(); }

    int doorbell(uint16_t queue_index) const override { return doorbells_[queue_index].get(); }
    void ring(uint16_t queue_index);  // as if the driver had notified; any thread
    uint64_t chain_count() const { return chains_total_.load(std::memory_order_relaxed); }
    uint64_t notification_count() const { return notifications_.value(); }

private:
    DeviceRunner(VirtioDevice& device, GuestMemory& memory, RunnerEvents& events);
    EventLoop& loop() override;
    EventLoop& queue_loop(uint16_t index) override;
    const Clock& clock() const override { return threads_.front()->clock(); }
    GuestMemory* memory() override { return &memory_; }
    Queue* queue(uint16_t index) override;
    uint64_t features() const override { return features_; }
    bool serve_queue(uint16_t index) override;
    void run_queue(uint16_t index) override { ring(index); }
    void config_changed() override;
    void queue_used(uint16_t queue_index) override;
    void queue_broken(uint16_t queue_index, std::string_view reason) override;

    Result<void> make_queues(const std::vector<QueueConfig>& queues);
    void start_threads();
    // `function(thread index)` on each I/O thread, the first one last; waits.
    void on_each_thread(const std::function<void(uint16_t)>& function);
    template <class Function>
    void for_queues_of(uint16_t thread, const Function& function);
    Result<void> begin();                        // on the first I/O thread
    Result<void> begin_queues(uint16_t thread);  // on that thread, as all that follow
    Result<void> watch_doorbells(uint16_t thread);
    void quiesce(uint16_t thread);
    void drop(uint16_t thread);
    void count_chains();

    VirtioDevice& device_;
    GuestMemory& memory_;
    RunnerEvents& events_;
    std::vector<UniqueFd> doorbells_;
    std::vector<std::unique_ptr<Queue>> queues_;          // by index; null: not enabled
    std::vector<std::vector<EventLoop::Watch>> watches_;  // by thread
    std::vector<bool> queue_started_;
    uint64_t features_ = 0;
    bool paused_ = false;
    bool device_started_ = false;
    std::atomic<bool> broken_{false};
    Counter notifications_;
    std::atomic<uint64_t> chains_total_{0};
    uint64_t chains_finished_ = 0;  // of queues that are gone
    std::vector<std::unique_ptr<IoThread>> threads_;
};

}  // namespace kumoi::hypervisor
