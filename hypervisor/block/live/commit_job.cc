#include "hypervisor/block/live/commit_job.h"

#include <algorithm>

#include "hypervisor/block/live/borrowed_source.h"
#include "hypervisor/block/qcow2/blocking_port.h"
#include "hypervisor/block/qcow2/buffer.h"
#include "hypervisor/block/qcow2/chain.h"
#include "hypervisor/block/qcow2/qcow2_image.h"

namespace kumoi::hypervisor {

namespace {

constexpr char kBitmap[] = "kumoi-commit";  // in memory only
constexpr uint64_t kGranularityMin = 64u << 10;
constexpr uint64_t kPieceMax = 2u << 20;       // bytes copied at once
constexpr uint64_t kStandstillMax = 8u << 20;  // bytes copied while the disk stands still ...
constexpr int kRoundsMax = 10;                 // ... unless the guest writes faster than we copy

using qcow2::run_waiting;

}  // namespace

Result<std::unique_ptr<CommitJob>> CommitJob::create(FileSource& files, Qcow2Image& image) {
    std::unique_ptr<CommitJob> job(new CommitJob(image));
    job->below_ = dynamic_cast<qcow2::Store*>(image.store().backing());
    if (job->below_ == nullptr) {
        return Error::unsupported("disk {} has no qcow2 image below it to commit to", image.name())
            .with_hint(
                "only what a disk_snapshot made can be merged back; disk_flatten makes a "
                "disk independent of a raw backing file");
    }
    if (job->below_->size() != image.store().size()) {
        return Error::conflict("{} has {} bytes, the image below it {}", image.name(),
                               image.store().size(), job->below_->size())
            .with_hint("stop the guest and use kumoi-img commit");
    }
    TRY(job->open_base(files));
    job->total_bytes_ = image.store().size();
    return Result<std::unique_ptr<CommitJob>>(std::move(job));
}

// A reader of the file becomes its one writer: refused while anybody else reads it.
Result<void> CommitJob::open_base(FileSource& files) {
    const bool direct = image_.options().cache == CacheMode::None;
    auto file = TRY(qcow2::open_host_file(files, below_->path(), true, direct, false));
    qcow2::unlock_host_file(below_->file());
    if (auto locked = qcow2::lock_host_file(*file, true); !locked.ok()) {
        TRY(qcow2::lock_host_file(below_->file(), false));
        return std::move(locked).error().with_context("the image below is not this disk's alone");
    }
    std::unique_ptr<qcow2::BlockSource> backing;
    if (below_->backing() != nullptr) {
        // the image's chain owns it until the switch
        backing = std::make_unique<BorrowedSource>(*below_->backing());
    }
    qcow2::BlockingPort port;
    qcow2::StoreOptions options;
    options.l2_cache_bytes = image_.options().l2_cache_bytes;
    base_ = TRY(qcow2::Store::open(port, std::move(file), options, std::move(backing)));
    return {};
}

Result<void> CommitJob::begin() {
    granularity_ = std::max<uint64_t>(image_.store().header().cluster_size(), kGranularityMin);
    TRY(image_.bitmaps().add(kBitmap, granularity_, false));
    recording_ = true;
    changes_ = {{0, image_.store().size()}};
    return {};
}

// While the disk stands still.
Result<uint64_t> CommitJob::take_changes() {
    changes_.clear();
    uint64_t bytes = 0;
    TRY(image_.bitmaps().for_each_dirty(kBitmap, [&](uint64_t offset, uint64_t size) {
        changes_.emplace_back(offset, size);
        bytes += size;
        return true;
    }));
    TRY(image_.bitmaps().clear(kBitmap));
    return bytes;
}

Result<void> CommitJob::work() {
    for (const auto& [offset, size] : changes_) {
        TRY(copy(offset, size));
    }
    qcow2::BlockingPort port;
    const int status = run_waiting(port, base_->flush(port));
    return status < 0 ? Result<void>(base_->error_of(status, "committing to")) : Result<void>();
}

// What the image itself has in this range.
Result<void> CommitJob::copy(uint64_t offset, uint64_t size) {
    qcow2::BlockingPort port;
    qcow2::AlignedBuffer buffer;
    if (!buffer.allocate(kPieceMax)) {
        return Error::from_errno(ENOMEM, "a buffer");
    }
    for (const uint64_t end = offset + size; offset < end;) {
        if (cancelled()) {
            return Error::cancelled("the commit was cancelled");
        }
        qcow2::MappedExtent extent;
        const uint64_t wanted = std::min(end - offset, kPieceMax);
        int status = run_waiting(port, image_.store().map(port, offset, wanted, extent));
        if (status == 0 && is_hidden(extent)) {
            status = copy_extent(extent, buffer.data());
        }
        if (status < 0) {
            return base_->error_of(status, "committing to");
        }
        offset += extent.size;
        done_bytes_ = std::min<uint64_t>(total_bytes_, done_bytes_ + extent.size);
    }
    return {};
}

// Whether the image has hidden what is below since the disk last stood still. Looked at after
// mapping, because a write is recorded before it maps anything. May shorten the extent.
bool CommitJob::is_hidden(qcow2::MappedExtent& extent) const {
    if (extent.kind == qcow2::ExtentKind::Unallocated) {
        return false;
    }
    if (!image_.bitmaps().any_dirty(kBitmap, extent.offset, extent.size)) {
        return true;
    }
    const uint64_t granule_end = (extent.offset / granularity_ + 1) * granularity_;
    extent.size = std::min(extent.size, granule_end - extent.offset);
    return !image_.bitmaps().any_dirty(kBitmap, extent.offset, extent.size);
}

int CommitJob::copy_extent(const qcow2::MappedExtent& extent, std::byte* buffer) {
    qcow2::BlockingPort port;
    if (extent.kind == qcow2::ExtentKind::Zero) {
        return run_waiting(port, base_->zero(port, extent.offset, extent.size, true));
    }
    const iovec vector{buffer, extent.size};
    const std::span<const iovec> vectors(&vector, 1);
    const int status =
        run_waiting(port, image_.store().read(port, extent.offset, vectors, extent.size));
    return status < 0 ? status
                      : run_waiting(port, base_->write(port, extent.offset, vectors, extent.size));
}

Result<bool> CommitJob::settle(const Result<void>& worked) {
    if (!worked.ok() || cancelled()) {
        give_back();
        return false;
    }
    auto settled = [this]() -> Result<bool> {
        const uint64_t left = TRY(take_changes());
        if (left > kStandstillMax && ++rounds_ < kRoundsMax) {
            return false;
        }
        for (const auto& [offset, size] : changes_) {
            TRY(copy(offset, size));
        }
        recording_ = false;
        TRY(image_.bitmaps().remove(kBitmap));
        TRY(image_.switch_to_base(std::move(base_)));
        return true;
    }();
    if (!settled.ok()) {
        give_back();
    }
    return settled;
}

// The image stays in use. What is below it is as good as before: hidden where it changed.
void CommitJob::give_back() {
    if (std::exchange(recording_, false)) {
        (void)image_.bitmaps().remove(kBitmap);
    }
    if (base_) {
        qcow2::BlockingPort port;
        (void)base_->close(port);
        base_.reset();
        (void)qcow2::lock_host_file(below_->file(), false);
    }
}

}  // namespace kumoi::hypervisor
