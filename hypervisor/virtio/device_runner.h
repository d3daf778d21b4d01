// DeviceRunner: the side of a virtio device that runs: its I/O thread, its queues, and the
// doorbells (eventfds) that wake it. The transport decides when; this decides how.
//
// start() at DRIVER_OK, stop() at reset, pause() and resume() around migration or a user's pause.
// When pause() or stop() has returned, nothing is in flight and no byte of guest memory is touched.
// resume() runs every queue and interrupts the driver once per queue, because a notification may
// have been lost. Threading: the verbs are serialised by the caller (the transport's lock); they
// wait for the I/O thread, which takes no lock of the caller's.
#pragma once

#include <atomic>
#include <cstdint>
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

    // Checks the rings of every given queue, then starts the device on its thread.
    Result<void> start(const std::vector<QueueConfig>& queues, uint64_t features);
    void stop();
    void pause();
    void resume();
    bool running() const { return thread_ != nullptr; }

    int doorbell(uint16_t queue_index) const { return doorbells_[queue_index].get(); }
    void ring(uint16_t queue_index);  // as if the driver had notified; any thread
    uint64_t chain_count() const { return chains_total_.load(std::memory_order_relaxed); }
    uint64_t notification_count() const { return notifications_.value(); }

private:
    DeviceRunner(VirtioDevice& device, GuestMemory& memory, RunnerEvents& events);
    EventLoop& loop() override;
    Queue* queue(uint16_t index) override;
    uint64_t features() const override { return features_; }
    bool serve_queue(uint16_t index) override;
    void run_queue(uint16_t index) override { ring(index); }
    void config_changed() override;
    void queue_used(uint16_t queue_index) override;
    void queue_broken(uint16_t queue_index, std::string_view reason) override;

    Result<void> make_queues(const std::vector<QueueConfig>& queues);
    Result<void> begin();            // on the I/O thread
    Result<void> watch_doorbells();  // on the I/O thread
    void count_chains();

    VirtioDevice& device_;
    GuestMemory& memory_;
    RunnerEvents& events_;
    std::vector<UniqueFd> doorbells_;
    std::vector<std::unique_ptr<Queue>> queues_;  // by index; null: not enabled
    std::vector<EventLoop::Watch> watches_;
    uint64_t features_ = 0;
    bool paused_ = false;
    bool device_started_ = false;
    std::atomic<bool> broken_{false};
    Counter notifications_;
    std::atomic<uint64_t> chains_total_{0};
    uint64_t chains_finished_ = 0;  // of queues that are gone
    std::unique_ptr<IoThread> thread_;
};

}  // namespace kumoi::hypervisor
