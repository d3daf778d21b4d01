#include "hypervisor/virtio/device_runner.h"

#include <unistd.h>

#include <utility>

#include "base/assert.h"
#include "base/log.h"

namespace kumoi::hypervisor {

DeviceRunner::DeviceRunner(VirtioDevice& device, GuestMemory& memory, RunnerEvents& events)
    : device_(device), memory_(memory), events_(events) {}

DeviceRunner::~DeviceRunner() {
    stop();
}

Result<std::unique_ptr<DeviceRunner>> DeviceRunner::create(VirtioDevice& device,
                                                           GuestMemory& memory,
                                                           RunnerEvents& events) {
    std::unique_ptr<DeviceRunner> runner(new DeviceRunner(device, memory, events));
    const size_t count = device.queue_sizes().size();
    for (size_t i = 0; i < count; ++i) {
        runner->doorbells_.push_back(TRY(make_eventfd()));
    }
    runner->queues_.resize(count);
    return runner;
}

Result<void> DeviceRunner::start(const std::vector<QueueConfig>& queues, uint64_t features) {
    KUMOI_ASSERT(!running());
    features_ = features;
    broken_ = false;
    TRY(make_queues(queues));
    thread_ = std::make_unique<IoThread>(device_.name());
    Result<void> begun;
    thread_->call([&] { begun = begin(); });
    if (!begun.ok()) {
        stop();
    }
    return begun;
}

Result<void> DeviceRunner::make_queues(const std::vector<QueueConfig>& queues) {
    for (const QueueConfig& config : queues) {
        KUMOI_ASSERT(config.index < queues_.size());
        auto queue = Queue::create(memory_, config, features_, *this);
        if (!queue.ok()) {
            for (auto& made : queues_) {
                made.reset();
            }
            return std::move(queue).error();
        }
        queues_[config.index] = std::move(queue).value();
    }
    return {};
}

Result<void> DeviceRunner::begin() {
    TRY(device_.start(*this));
    device_started_ = true;
    if (paused_) {
        device_.quiesce();
        return {};
    }
    return watch_doorbells();
}

Result<void> DeviceRunner::watch_doorbells() {
    for (uint16_t index = 0; index < queues_.size(); ++index) {
        if (!queues_[index]) {
            continue;
        }
        const int fd = doorbells_[index].get();
        watches_.push_back(
            TRY(loop().watch(fd, EventLoop::kReadable, [this, index, fd](uint32_t /*events*/) {
                uint64_t count = 0;
                if (::read(fd, &count, sizeof(count)) == sizeof(count)) {
                    notifications_.increment(count);
                }
                serve_queue(index);
            })));
        ring(index);  // buffers may have come before anybody listened
    }
    return {};
}

void DeviceRunner::stop() {
    if (!running()) {
        return;
    }
    thread_->call([this] {
        watches_.clear();
        if (device_started_) {
            device_.quiesce();
            device_.stop();
            device_started_ = false;
        }
        count_chains();
        for (auto& queue : queues_) {
            chains_finished_ += queue ? queue->chain_count() : 0;
            queue.reset();
        }
    });
    thread_.reset();
}

void DeviceRunner::pause() {
    if (std::exchange(paused_, true) || !running()) {
        return;
    }
    thread_->call([this] {
        watches_.clear();
        device_.quiesce();
        for (auto& queue : queues_) {
            if (queue) {
                queue->publish();
            }
        }
    });
}

void DeviceRunner::resume() {
    if (!std::exchange(paused_, false) || !running()) {
        return;
    }
    thread_->call([this] {
        device_.resume();
        if (auto watching = watch_doorbells(); !watching.ok()) {
            queue_broken(0, watching.error().text());
        }
        for (auto& queue : queues_) {
            if (queue && !queue->broken()) {
                queue->interrupt_driver();
            }
        }
    });
}

void DeviceRunner::ring(uint16_t queue_index) {
    if (queue_index < doorbells_.size()) {
        const uint64_t one = 1;
        // A full counter (EAGAIN) means it is ringing already.
        [[maybe_unused]] const ssize_t count =
            ::write(doorbells_[queue_index].get(), &one, sizeof(one));
    }
}

EventLoop& DeviceRunner::loop() {
    KUMOI_ASSERT(thread_ != nullptr);
    return thread_->loop();
}

Queue* DeviceRunner::queue(uint16_t index) {
    return index < queues_.size() ? queues_[index].get() : nullptr;
}

void DeviceRunner::config_changed() {
    events_.config_interrupt();
}

bool DeviceRunner::serve_queue(uint16_t index) {
    Queue* served = queue(index);
    if (served == nullptr || broken_) {
        return false;
    }
    served->begin_batch();
    device_.process_queue(*served);
    served->publish();
    if (served->ran_dry() && served->rearm()) {
        ring(index);  // the next turn comes after everybody else's
    }
    count_chains();
    return !broken_;
}

void DeviceRunner::queue_used(uint16_t queue_index) {
    events_.queue_interrupt(queue_index);
}

// One broken queue stops the device: the driver's picture of it is wrong, and it is told to reset
// it.
void DeviceRunner::queue_broken(uint16_t queue_index, std::string_view reason) {
    if (!broken_.exchange(true)) {
        events_.device_broken(fmt::format("queue {}: {}", queue_index, reason));
    }
}

void DeviceRunner::count_chains() {
    uint64_t total = chains_finished_;
    for (const auto& queue : queues_) {
        total += queue ? queue->chain_count() : 0;
    }
    chains_total_.store(total, std::memory_order_relaxed);
}

}  // namespace kumoi::hypervisor
