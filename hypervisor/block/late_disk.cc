#include "hypervisor/block/late_disk.h"

#include <algorithm>
#include <cerrno>
#include <future>

#include "base/log.h"
#include "hypervisor/block/leased_image.h"
#include "hypervisor/block/live/live_disk.h"
#include "hypervisor/block/qcow2/qcow2_image.h"
#include "hypervisor/block/raw_image.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint16_t kQueueCountMax = 16;

class FlushClient final : public DiskClient {
public:
    void disk_completed(uint32_t /*token*/, int result) override { result_ = result; }
    void disk_batch_done() override {}
    int result() const { return result_; }

private:
    int result_ = -EIO;
};

// On the thread of `loop`; the image has a queue free.
Result<void> flush_through(DiskImage& image, EventLoop& loop) {
    FlushClient client;
    {
        const auto queue = TRY(image.open_queue(loop, client));
        DiskRequest request;
        request.operation = DiskOperation::Flush;
        (void)queue->submit(request);  // it is empty: it takes one
        queue->kick();
        queue->drain();
    }
    return client.result() == 0
               ? Result<void>()
               : Result<void>(Error::from_errno(-client.result(), "flushing " + image.name()));
}

}  // namespace

// One stream of requests, with the image's own stream behind it while there is one.
class LateQueue final : public DiskQueue {
public:
    LateQueue(LateDisk& disk, EventLoop& loop, DiskClient& client)
        : disk_(disk), loop_(loop), client_(client) {
        disk_.enter(*this);
    }
    ~LateQueue() override { disk_.leave(*this); }

    bool submit(DiskRequest& request) override {
        if (inner_) {
            return inner_->submit(request);
        }
        refused_ = true;
        client_.disk_completed(request.token, -EIO);
        return true;
    }
    void kick() override {
        if (std::exchange(refused_, false)) {
            client_.disk_batch_done();
        }
        if (inner_) {
            inner_->kick();
        }
    }
    void drain() override {
        if (inner_) {
            inner_->drain();
        }
    }

    Result<void> attach(DiskImage& image) {
        inner_ = TRY(image.open_queue(loop_, client_));
        return {};
    }
    // From the control thread; null: nothing behind it any more.
    Result<void> attach_on_its_thread(DiskImage* image) {
        std::promise<Result<void>> done;
        loop_.post([&] {
            drain();
            inner_.reset();
            done.set_value(image == nullptr ? Result<void>() : attach(*image));
        });
        return done.get_future().get();
    }
    // What was written is durable. Nothing may be in flight but what drain() ends.
    Result<void> flush_on_its_thread(DiskImage& image) {
        std::promise<Result<void>> done;
        loop_.post([&] {
            drain();
            inner_.reset();  // its place is lent to the flush
            auto flushed = flush_through(image, loop_);
            auto attached = attach(image);
            done.set_value(attached.ok() ? std::move(flushed) : std::move(attached));
        });
        return done.get_future().get();
    }

private:
    LateDisk& disk_;
    EventLoop& loop_;
    DiskClient& client_;
    std::unique_ptr<DiskQueue> inner_;
    bool refused_ = false;
};

LateDisk::LateDisk(FileSource& files, Spec spec)
    : spec_(std::move(spec)),
      files_(std::make_unique<KeptFiles>(files)),
      can_discard_(!spec_.options.read_only),
      queue_count_max_(std::clamp<uint16_t>(spec_.queues, 1, kQueueCountMax)) {}

LateDisk::~LateDisk() = default;

std::unique_ptr<LateDisk> LateDisk::closed(FileSource& files, Spec spec) {
    return std::unique_ptr<LateDisk>(new LateDisk(files, std::move(spec)));
}

// The lease first: opening a qcow2 image may write to it.
Result<std::unique_ptr<LateDisk>> LateDisk::open(FileSource& files, Spec spec) {
    auto disk = closed(files, std::move(spec));
    const DiskLock& lock = disk->lease();
    std::unique_ptr<DiskLease> lease;
    if (!lock.lease.empty()) {
        lease = TRY_CONTEXT(DiskLease::acquire(*disk->files_, lock.lease, lock.epoch, lock.owner),
                            "disk image {}", disk->name());
    }
    TRY(disk->hold());
    disk->raw_ = disk->opened_.raw;
    disk->qcow2_ = disk->opened_.qcow2;
    TRY(disk->use(
        assemble_disk(std::exchange(disk->opened_, {}), std::move(lease), disk->read_only())));
    return disk;
}

std::string LateDisk::name() const {
    return image_ ? image_->name() : spec_.options.path;
}

Result<void> LateDisk::hold() {
    KUMOI_ASSERT(!held());
    KUMOI_ASSERT(!in_use());
    OpenedDisk opened;
    if (spec_.backend) {
        opened.image = TRY(spec_.backend());
    } else {
        opened = TRY(open_disk_format(*files_, spec_.options));
    }
    if (auto fits = check_fits(*opened.image); !fits.ok()) {
        opened.image->abandon();
        opened = {};
        files_->unlock();
        return fits;
    }
    if (!known_) {
        can_discard_ = opened.image->can_discard();
        queue_count_max_ = opened.image->queue_count_max();
        known_ = true;
    }
    block_size_ = opened.image->block_size();
    size_ = opened.image->size();
    opened_ = std::move(opened);
    return {};
}

// The guest's driver has seen what the disk can.
Result<void> LateDisk::check_fits(const DiskImage& image) const {
    const bool same = image.read_only() == read_only() || !known_;
    const bool discards = image.can_discard() || !can_discard_ || (!known_ && spec_.backend);
    if (!same || !discards || image.queue_count_max() < std::min(spec_.queues, kQueueCountMax)) {
        return Error::unsupported(
            "disk {} is {}, {} discard and serves {} queues; the guest's is {}, {} and has {}",
            image.name(), image.read_only() ? "read-only" : "writable",
            image.can_discard() ? "can" : "cannot", image.queue_count_max(),
            read_only() ? "read-only" : "writable", can_discard_ ? "can" : "cannot", spec_.queues);
    }
    return {};
}

Result<std::optional<LeaseRecord>> LateDisk::lease_record() {
    if (lease().lease.empty()) {
        return std::optional<LeaseRecord>();
    }
    return std::optional(TRY(DiskLease::look(*files_, lease().lease)));
}

Result<void> LateDisk::take(uint64_t epoch, const std::vector<uint64_t>& accepted) {
    KUMOI_ASSERT(held());
    std::unique_ptr<DiskLease> taken;
    if (!lease().lease.empty()) {
        taken = TRY(DiskLease::take_over(*files_, lease().lease, epoch, lease().owner, accepted));
        spec_.options.lock.epoch = epoch;
    }
    raw_ = opened_.raw;
    qcow2_ = opened_.qcow2;
    return use(assemble_disk(std::exchange(opened_, {}), std::move(taken), read_only()));
}

Result<void> LateDisk::use(std::unique_ptr<DiskImage> image) {
    image_ = std::move(image);
    forward_resize();
    for (LateQueue* queue : queues()) {
        TRY(queue->attach_on_its_thread(image_.get()));
    }
    return {};
}

Result<void> LateDisk::sync() {
    if (!image_ || read_only()) {
        return {};
    }
    if (raw_ != nullptr) {
        return raw_->sync();
    }
    if (qcow2_ != nullptr) {
        return qcow2_->sync();
    }
    // A back end may keep what it was given in memory (librbd does), where its neighbour on the
    // other host does not see it.
    const auto all = queues();
    return all.empty() ? Result<void>() : all.front()->flush_on_its_thread(*image_);
}

Result<void> LateDisk::drop(Drop how) {
    Result<void> durable;
    if (image_) {
        for (LateQueue* queue : queues()) {
            (void)queue->attach_on_its_thread(nullptr);
        }
        image_->on_resize({});
        if (!read_only() && raw_ != nullptr && how == Drop::Durable) {
            durable = raw_->sync();
        } else if (!read_only() && qcow2_ != nullptr) {
            durable = qcow2_->close_now();
        }
        raw_ = nullptr;
        qcow2_ = nullptr;
        image_.reset();
    } else if (opened_.image) {
        opened_.image->abandon();  // nothing was written through it
        opened_ = {};
    }
    files_->unlock();
    return durable;
}

void LateDisk::write_back() const {
    if (qcow2_ != nullptr && !read_only()) {
        files_->write_back();
    }
}

void LateDisk::abandon() {
    if (image_) {
        image_->abandon();
    }
}

Result<std::unique_ptr<DiskQueue>> LateDisk::open_queue(EventLoop& loop, DiskClient& client) {
    auto queue = std::make_unique<LateQueue>(*this, loop, client);
    if (image_) {
        TRY(queue->attach(*image_));
    }
    return Result<std::unique_ptr<DiskQueue>>(std::move(queue));
}

Result<void> LateDisk::resize(uint64_t size) {
    if (!image_) {
        return Error::conflict("disk {} is not open", name());
    }
    TRY(image_->resize(size));
    size_ = image_->size();
    return {};
}

void LateDisk::on_resize(std::function<void()> function) {
    {
        const std::lock_guard lock(mutex_);
        resized_ = std::move(function);
    }
    forward_resize();
}

void LateDisk::forward_resize() {
    if (!image_) {
        return;
    }
    image_->on_resize([this] {
        size_ = image_->size();
        const std::lock_guard lock(mutex_);
        if (resized_) {
            resized_();
        }
    });
}

void LateDisk::enter(LateQueue& queue) {
    const std::lock_guard lock(mutex_);
    queues_.push_back(&queue);
}

void LateDisk::leave(LateQueue& queue) {
    const std::lock_guard lock(mutex_);
    std::erase(queues_, &queue);
}

std::vector<LateQueue*> LateDisk::queues() {
    const std::lock_guard lock(mutex_);
    return queues_;
}

}  // namespace kumoi::hypervisor
