#include "migration/destination/disk_writer.h"

#include "base/event_loop.h"
#include "hypervisor/snapshot/job_thread.h"

namespace kumoi::migration {

using hypervisor::DiskOperation;
using hypervisor::DiskRequest;

// The queues, on the thread that uses them.
struct DiskWriter::Queue final : hypervisor::DiskClient {
    explicit Queue(const Clock& clock) : loop(clock) {}
    EventLoop loop;
    std::vector<std::unique_ptr<hypervisor::DiskQueue>> queues;
    int result = 0;

    void disk_completed(uint32_t /*token*/, int status) override {
        result = result == 0 ? status : result;
    }
    void disk_batch_done() override {}

    int run(size_t disk, DiskRequest request) {
        result = 0;
        while (!queues[disk]->submit(request)) {
            queues[disk]->drain();
        }
        queues[disk]->kick();
        queues[disk]->drain();
        return result;
    }
};

DiskWriter::DiskWriter(std::vector<hypervisor::DiskImage*> images, const Clock& clock)
    : images_(std::move(images)), clock_(clock) {
    thread_ = hypervisor::start_job_thread(
        "mig-disks", [this] { work(); }, hypervisor::ThreadClass::Io);
}

DiskWriter::~DiskWriter() {
    stop();
    thread_.join();
}

void DiskWriter::stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
}

Error DiskWriter::stopped_error() const {
    return error_ ? *error_ : Error::cancelled("the writing of disks was stopped");
}

Result<void> DiskWriter::add(Piece piece) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stopped_ || waiting_.size() < kWaitingMax; });
    if (stopped_) {
        return stopped_error();
    }
    waiting_.push_back(std::move(piece));
    ++added_;
    changed_.notify_all();
    return {};
}

Result<void> DiskWriter::write(size_t disk, uint64_t offset, uint64_t size,
                               std::vector<std::byte> bytes) {
    return add({disk, offset, size, std::move(bytes), false});
}

Result<void> DiskWriter::flush() {
    for (size_t disk = 0; disk < images_.size(); ++disk) {
        TRY(add({.disk = disk, .flush = true}));
    }
    std::unique_lock lock(mutex_);
    const uint64_t until = added_;
    changed_.wait(lock, [&] { return stopped_ || done_ >= until; });
    if (stopped_) {
        return stopped_error();
    }
    return {};
}

void DiskWriter::work() {
    Queue queue(clock_);
    Result<void> done;
    for (hypervisor::DiskImage* image : images_) {
        auto opened = image->open_queue(queue.loop, queue);
        if (!opened) {
            done = opened.error();
            break;
        }
        queue.queues.push_back(std::move(*opened));
    }
    for (;;) {
        Piece piece;
        {
            std::unique_lock lock(mutex_);
            if (!done) {
                error_ = done.error();
                stopped_ = true;
            }
            changed_.notify_all();
            changed_.wait(lock, [this] { return stopped_ || !waiting_.empty(); });
            if (stopped_) {
                return;
            }
            piece = std::move(waiting_.front());
            waiting_.pop_front();
        }
        done = write_piece(queue, piece);
        const std::lock_guard lock(mutex_);
        ++done_;
    }
}

Result<void> DiskWriter::write_piece(Queue& queue, Piece& piece) {
    DiskRequest request;
    request.operation = piece.flush           ? DiskOperation::Flush
                        : piece.bytes.empty() ? DiskOperation::WriteZeroes
                                              : DiskOperation::Write;
    request.may_unmap = true;
    request.offset = piece.offset;
    request.size = piece.size;
    if (!piece.bytes.empty()) {
        request.vectors.push_back({piece.bytes.data(), piece.bytes.size()});
    }
    if (const int status = queue.run(piece.disk, std::move(request)); status < 0) {
        return Error::from_errno(
            -status, fmt::format("writing {} at {}", images_[piece.disk]->name(), piece.offset));
    }
    bytes_.fetch_add(piece.size, std::memory_order_relaxed);
    return {};
}

}  // namespace kumoi::migration
