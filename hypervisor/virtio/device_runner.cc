#include "hypervisor/virtio/device_runner.h"

#include <unistd.h>

#include <algorithm>
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

Result<void> DeviceRunner::start(const std::vector<QueueConfig>& queues, uint64_t features,
                                 const Positions& positions) {
    KUMOI_ASSERT(!running());
    features_ = features;
    broken_ = false;
    TRY(make_queues(queues));
    for (const auto& [index, position] : positions) {
        if (Queue* restored = queue(index)) {
            restored->set_position(position);
        }
    }
    start_threads();
    Result<void> begun;
    threads_.front()->call([&] { begun = begin(); });
    on_each_thread([&](uint16_t thread) {
        if (begun.ok()) {
            begun = begin_queues(thread);
        }
    });
    if (!begun.ok()) {
        stop();
    }
    return begun;
}

DeviceRunner::Positions DeviceRunner::positions() const {
    KUMOI_ASSERT(paused_);
    Positions all;
    for (const auto& queue : queues_) {
        if (queue) {
            all[queue->index()] = queue->position();
        }
    }
    return all;
}

void DeviceRunner::start_threads() {
    const uint16_t count = std::max<uint16_t>(device_.thread_count(), 1);
    watches_.resize(count);
    for (uint16_t thread = 0; thread < count; ++thread) {
        threads_.push_back(std::make_unique<IoThread>(
            thread == 0 ? device_.name() : fmt::format("{}.{}", device_.name(), thread)));
    }
}

void DeviceRunner::on_each_thread(const std::function<void(uint16_t)>& function) {
    for (size_t thread = threads_.size(); thread-- > 0;) {
        threads_[thread]->call([&] { function(static_cast<uint16_t>(thread)); });
    }
}

template <class Function>
void DeviceRunner::for_queues_of(uint16_t thread, const Function& function) {
    for (const auto& queue : queues_) {
        if (queue && device_.thread_of(queue->index()) == thread) {
            function(*queue);
        }
    }
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
    queue_started_.assign(queues_.size(), false);
    TRY(device_.start(*this));
    device_started_ = true;
    return {};
}

Result<void> DeviceRunner::begin_queues(uint16_t thread) {
    Result<void> begun;
    for_queues_of(thread, [&](Queue& queue) {
        if (begun.ok()) {
            begun = device_.start_queue(queue);
            queue_started_[queue.index()] = begun.ok();
        }
    });
    TRY(std::move(begun));
    if (paused_) {
        quiesce(thread);
        return {};
    }
    return watch_doorbells(thread);
}

Result<void> DeviceRunner::watch_doorbells(uint16_t thread) {
    if (thread == 0) {
        device_.begin_serving();
    }
    Result<void> watching;
    for_queues_of(thread, [&](Queue& queue) {
        const uint16_t index = queue.index();
        if (device_.served_elsewhere(index)) {
            ring(index);
            return;
        }
        const int fd = doorbells_[index].get();
        auto watch = queue_loop(index).watch(
            fd, EventLoop::kReadable, [this, index, fd](uint32_t /*events*/) {
                uint64_t count = 0;
                if (::read(fd, &count, sizeof(count)) == sizeof(count)) {
                    notifications_.increment(count);
                }
                serve_queue(index);
            });
        if (!watch.ok()) {
            watching = std::move(watch).error();
            return;
        }
        watches_[thread].push_back(std::move(watch).value());
        ring(index);  // buffers may have come before anybody listened
    });
    return watching;
}

// Nothing in flight of this thread's queues afterwards; with the first, which comes last, of none.
void DeviceRunner::quiesce(uint16_t thread) {
    watches_[thread].clear();
    if (!device_started_) {
        return;
    }
    for_queues_of(thread, [&](Queue& queue) {
        if (queue_started_[queue.index()]) {
            device_.quiesce_queue(queue);
            queue.publish();
        }
    });
    if (thread == 0) {
        device_.quiesce();
        for_queues_of(thread, [](Queue& queue) { queue.publish(); });
    }
}

void DeviceRunner::drop(uint16_t thread) {
    for_queues_of(thread, [&](Queue& queue) {
        if (queue_started_[queue.index()]) {
            device_.stop_queue(queue);
        }
    });
    if (thread != 0) {
        return;
    }
    if (std::exchange(device_started_, false)) {
        device_.stop();
    }
    count_chains();
    for (auto& queue : queues_) {
        chains_finished_ += queue ? queue->chain_count() : 0;
        queue.reset();
    }
}

void DeviceRunner::stop() {
    if (!running()) {
        return;
    }
    on_each_thread([this](uint16_t thread) { quiesce(thread); });
    on_each_thread([this](uint16_t thread) { drop(thread); });
    threads_.clear();
    watches_.clear();
}

void DeviceRunner::pause() {
    if (std::exchange(paused_, true) || !running()) {
        return;
    }
    on_each_thread([this](uint16_t thread) { quiesce(thread); });
}

void DeviceRunner::resume() {
    if (!std::exchange(paused_, false) || !running()) {
        return;
    }
    threads_.front()->call([this] { device_.resume(); });
    on_each_thread([this](uint16_t thread) {
        if (auto watching = watch_doorbells(thread); !watching.ok()) {
            queue_broken(0, watching.error().text());
        }
        for_queues_of(thread, [](Queue& queue) {
            if (!queue.broken()) {
                queue.interrupt_driver();
            }
        });
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
    KUMOI_ASSERT(running());
    return threads_.front()->loop();
}

EventLoop& DeviceRunner::queue_loop(uint16_t index) {
    KUMOI_ASSERT(running());
    return threads_[device_.thread_of(index)]->loop();
}

Queue* DeviceRunner::queue(uint16_t index) {
    return index < queues_.size() ? queues_[index].get() : nullptr;
}

void DeviceRunner::config_changed() {
    events_.config_interrupt();
}

bool DeviceRunner::serve_queue(uint16_t index) {
    Queue* served = queue(index);
    if (served == nullptr || broken_ || device_.served_elsewhere(index)) {
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
