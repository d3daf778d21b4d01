// BusyDisk: a disk that its guest never leaves alone: a thread that keeps eight random requests in
// flight (writes of 4 KiB with known contents, zeroes, flushes), and what the disk must read as.
// stand_still() lets every request end and holds the guest for a moment, as Vmm does.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/random.h"
#include "hypervisor/block/disk_image.h"

namespace kumoi::hypervisor {

class BusyDisk final : private DiskClient {
public:
    static constexpr uint64_t kBlock = 4096;
    using Model = std::vector<uint8_t>;  // the value each block is filled with

    BusyDisk(DiskImage& image, Model model, uint64_t seed)
        : image_(image), model_(std::move(model)), random_(seed, "busy disk") {
        thread_ = std::thread([this] { run(); });
    }
    ~BusyDisk() override { stop(); }
    // Ends all requests; the model is what the disk must have from now on.
    void stop() {
        if (thread_.joinable()) {
            loop_.post([this] { stopping_ = true; });
            thread_.join();
        }
    }
    const Model& model() const { return model_; }  // while it stands still, or stopped
    int failures() const { return failures_; }
    uint64_t writes() const { return writes_; }

    Result<void> stand_still(const std::function<Result<void>()>& run) {
        std::unique_lock lock(mutex_);
        wanted_ = true;
        loop_.post([] {});
        changed_.wait(lock, [this] { return still_; });
        auto done = run();
        wanted_ = still_ = false;
        changed_.notify_all();
        return done;
    }

private:
    static constexpr uint32_t kDepth = 8;
    struct Slot {
        std::vector<std::byte> bytes = std::vector<std::byte>(kBlock);
        uint64_t block = 0;
        uint8_t value = 0;
        DiskOperation operation = DiskOperation::Flush;
        bool busy = false;
    };

    void run() {
        queue_ = image_.open_queue(loop_, *this).value();
        while (!stopping_) {
            rest();
            for (uint32_t i = 0; i < kDepth; ++i) {
                if (!slots_[i].busy) {
                    begin(i);
                }
            }
            queue_->kick();
            loop_.run_ready();
        }
        queue_->drain();
        loop_.run_ready();
        queue_.reset();
    }
    void rest() {
        std::unique_lock lock(mutex_);
        if (wanted_ && !still_) {
            lock.unlock();
            queue_->drain();
            lock.lock();
            still_ = true;
            changed_.notify_all();
            changed_.wait(lock, [this] { return !still_; });
        }
    }
    void begin(uint32_t index) {
        Slot& slot = slots_[index];
        const uint64_t kind = random_.below(16);
        slot.operation = kind == 0   ? DiskOperation::Flush
                         : kind == 1 ? DiskOperation::WriteZeroes
                                     : DiskOperation::Write;
        slot.block = random_.below(model_.size());
        for (const Slot& other : slots_) {
            if (other.busy && other.block == slot.block) {
                return;  // two writes of one block in flight may end either way
            }
        }
        slot.value = slot.operation == DiskOperation::Write
                         ? static_cast<uint8_t>(1 + random_.below(255))
                         : uint8_t{0};
        DiskRequest request;
        request.operation = slot.operation;
        request.token = index;
        request.may_unmap = random_.below(2) == 0;
        if (slot.operation != DiskOperation::Flush) {
            request.offset = slot.block * kBlock;
            request.size = kBlock;
        }
        if (slot.operation == DiskOperation::Write) {
            std::fill(slot.bytes.begin(), slot.bytes.end(), std::byte{slot.value});
            request.vectors = {{slot.bytes.data(), kBlock}};
        }
        slot.busy = true;  // it may complete inside submit()
        if (!queue_->submit(request)) {
            slot.busy = false;
        }
    }
    void disk_completed(uint32_t token, int result) override {
        Slot& slot = slots_[token];
        failures_ += result != 0 ? 1 : 0;
        if (slot.operation != DiskOperation::Flush) {
            model_[slot.block] = slot.value;
            ++writes_;
        }
        slot.busy = false;
    }
    void disk_batch_done() override {}

    DiskImage& image_;
    SystemClock clock_;
    EventLoop loop_{clock_};
    Model model_;
    SeededRandom random_;
    std::unique_ptr<DiskQueue> queue_;
    std::vector<Slot> slots_{kDepth};
    int failures_ = 0;
    std::atomic<uint64_t> writes_{0};
    bool stopping_ = false;  // its thread's
    std::mutex mutex_;       // guards the next two
    bool wanted_ = false;
    bool still_ = false;
    std::condition_variable changed_;
    std::thread thread_;
};

}  // namespace kumoi::hypervisor
