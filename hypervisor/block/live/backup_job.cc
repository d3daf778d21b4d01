#include "hypervisor/block/live/backup_job.h"

#include <algorithm>

#include "base/log.h"
#include "hypervisor/block/qcow2/blocking_port.h"
#include "hypervisor/block/qcow2/buffer.h"
#include "hypervisor/block/qcow2/qcow2_image.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kPieceMax = 512u << 10;  // so long may a write of the guest wait

using qcow2::all_zero;
using qcow2::BlockingPort;
using qcow2::BlockSource;
using qcow2::ExtentKind;
using qcow2::MappedExtent;
using qcow2::run_waiting;

// Whether [offset, offset + size) is known to read as zeros, without reading.
Result<bool> is_empty(BlockingPort& port, BlockSource& source, uint64_t offset, uint64_t size) {
    const uint64_t end = offset + size;
    while (offset < end) {
        uint64_t part = end - offset;
        BlockSource* image = &source;
        for (; image != nullptr && offset < image->size(); image = image->backing()) {
            MappedExtent extent;
            part = std::min(part, image->size() - offset);
            const int status = run_waiting(port, image->map(port, offset, part, extent));
            if (status < 0) {
                return Error::from_errno(-status, fmt::format("mapping {}", image->path()));
            }
            part = extent.size;
            if (extent.kind == ExtentKind::Zero) {
                break;
            }
            if (extent.kind != ExtentKind::Unallocated) {
                return false;
            }
        }
        offset += part;
    }
    return true;
}

}  // namespace

BackupJob::BackupJob(LiveDisk& disk, std::unique_ptr<BackupTarget> target, Options options)
    : LiveJob("backup", target->path()),
      disk_(disk),
      target_(std::move(target)),
      options_(std::move(options)),
      size_(disk.size()),
      gate_(std::make_unique<CopyGate>(size_)) {
    if (options_.mode == Mode::Full) {
        gate_->need(0, size_);  // takes a while on a large disk: before it stands still
    }
}

BackupJob::~BackupJob() {
    finish_unsettled();
}

Result<void> BackupJob::begin() {
    if (disk_.size() != size_) {
        return Error::conflict("disk {} has changed its size", disk_.name()).with_hint("try again");
    }
    TRY(take_bitmap());
    for (const auto& [offset, size] : taken_) {
        if (options_.mode == Mode::Incremental) {
            gate_->need(offset, size);
        }
    }
    total_bytes_ = std::min(size_, gate_->pending_bytes());
    armed_ = gate_.get();
    disk_.set_gate(std::move(gate_));
    return {};
}

Result<void> BackupJob::take_bitmap() {
    if (options_.bitmap.empty()) {
        return {};
    }
    if (disk_.qcow2() == nullptr) {
        return Error::unsupported("disk {} is raw: it keeps no bitmaps", disk_.name())
            .with_hint("only a full backup without a bitmap is possible");
    }
    qcow2::DirtyBitmaps& bitmaps = disk_.qcow2()->bitmaps();
    const auto known = bitmaps.list();
    const auto mine = std::find_if(known.begin(), known.end(), [&](const auto& bitmap) {
        return bitmap.name == options_.bitmap;
    });
    const bool useless = mine != known.end() && mine->inconsistent;
    if (options_.mode == Mode::Full && (mine == known.end() || useless)) {
        if (useless) {
            TRY(bitmaps.remove(options_.bitmap));
        }
        TRY(bitmaps.add(options_.bitmap, 0, true));
        bitmap_made_ = bitmap_taken_ = true;
        return {};
    }
    if (mine != known.end() && !mine->enabled) {
        return Error::conflict("bitmap \"{}\" of {} does not record", options_.bitmap, disk_.name())
            .with_hint("remove it, and make a full backup");
    }
    TRY(bitmaps.for_each_dirty(options_.bitmap, [&](uint64_t offset, uint64_t size) {
        taken_.emplace_back(offset, size);
        return true;
    }));
    TRY(bitmaps.clear(options_.bitmap));
    bitmap_taken_ = true;
    return {};
}

void BackupJob::restore_bitmap() {
    if (!bitmap_taken_ || disk_.qcow2() == nullptr) {
        return;
    }
    qcow2::DirtyBitmaps& bitmaps = disk_.qcow2()->bitmaps();
    const auto restored =
        bitmap_made_ ? bitmaps.remove(options_.bitmap) : bitmaps.mark(options_.bitmap, taken_);
    if (!restored.ok()) {
        log_error("block", "a bitmap was not restored", {{"why", restored.error().text()}});
    }
}

Result<void> BackupJob::work() {
    auto copied = [this]() -> Result<void> {
        qcow2::AlignedBuffer buffer;
        if (!buffer.allocate(kPieceMax)) {
            return Error::from_errno(ENOMEM, "a buffer");
        }
        const auto source = TRY(disk_.open_source());
        while (const auto piece = armed_->next(kPieceMax)) {
            if (cancelled()) {
                return Error::cancelled("the backup was cancelled");
            }
            TRY(copy(*source, *piece, std::span(buffer.data(), piece->size)));
            armed_->copied(*piece);
            done_bytes_ += piece->size;
        }
        return {};
    }();
    armed_->open();  // the guest need not wait for the target to be durable
    TRY(std::move(copied));
    return target_->finish();
}

Result<void> BackupJob::copy(BlockSource& source, const CopyGate::Piece& piece,
                             std::span<std::byte> buffer) {
    BlockingPort port;
    if (TRY(is_empty(port, source, piece.offset, piece.size))) {
        return target_->zero(piece.offset, piece.size);
    }
    const iovec vector{buffer.data(), buffer.size()};
    const int status =
        run_waiting(port, source.read(port, piece.offset, std::span(&vector, 1), buffer.size()));
    if (status < 0) {
        return Error::from_errno(-status,
                                 fmt::format("reading {} at {}", disk_.name(), piece.offset));
    }
    for (size_t at = 0; at < buffer.size(); at += CopyGate::kGranule) {
        const auto part = buffer.subspan(at, std::min(CopyGate::kGranule, buffer.size() - at));
        TRY(all_zero(part) ? target_->zero(piece.offset + at, part.size())
                           : target_->write(piece.offset + at, part));
    }
    return {};
}

Result<bool> BackupJob::settle(const Result<void>& worked) {
    if (armed_ != nullptr) {
        armed_->open();
    }
    if (!worked.ok()) {
        restore_bitmap();
    }
    target_.reset();
    return true;
}

}  // namespace kumoi::hypervisor
