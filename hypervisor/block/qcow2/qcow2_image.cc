#include "hypervisor/block/qcow2/qcow2_image.h"

#include "base/log.h"
#include "hypervisor/block/qcow2/blocking_port.h"
#include "hypervisor/block/qcow2/chain.h"
#include "hypervisor/block/qcow2/queue_port.h"

namespace kumoi::hypervisor {

Result<std::unique_ptr<Qcow2Image>> Qcow2Image::open(FileSource& files,
                                                     const Qcow2ImageOptions& options) {
    std::unique_ptr<Qcow2Image> image(new Qcow2Image(options));
    TRY(image->open_store(files, options.path));
    if (image->size() == 0 || image->slot_.store->size() % 512 != 0) {
        return Error::invalid(
                   "disk image {} has a virtual size of {} bytes, which is not a "
                   "multiple of 512",
                   options.path, image->slot_.store->size())
            .with_hint("enlarge it with kumoi-img resize");
    }
    return Result<std::unique_ptr<Qcow2Image>>(std::move(image));
}

Result<void> Qcow2Image::open_store(FileSource& files, const std::string& path) {
    qcow2::BlockingPort port;
    qcow2::ChainOptions chain;
    chain.store.writable = !options_.read_only;
    chain.store.l2_cache_bytes = options_.l2_cache_bytes;
    chain.direct = options_.cache == CacheMode::None;
    chain.depth_max = options_.chain_depth_max;
    chain.backing_format = options_.backing_format;
    slot_.store = TRY(qcow2::open_chain(files, port, path, chain));
    bitmaps_ = std::make_unique<qcow2::DirtyBitmaps>(*slot_.store);
    return bitmaps_->load(port);
}

Qcow2Image::~Qcow2Image() {
    if (slot_.store && !abandoned_) {
        if (auto closed = close(); !closed) {
            log_error("block", "closing failed",
                      {{"disk", options_.path}, {"error", closed.error().text()}});
        }
    }
}

Result<void> Qcow2Image::sync() {
    qcow2::BlockingPort port;
    const int status = qcow2::run_inline(slot_.store->flush(port));
    return status == 0 ? Result<void>()
                       : Error::from_errno(-status, fmt::format("syncing {}", options_.path));
}

Result<void> Qcow2Image::close_now() {
    auto closed = close();
    abandoned_ = true;
    return closed;
}

Result<void> Qcow2Image::close() {
    qcow2::BlockingPort port;
    if (options_.read_only) {
        return {};
    }
    auto saved = bitmaps_->save(port);
    auto closed = slot_.store->close(port);
    return closed ? std::move(saved) : std::move(closed);
}

uint32_t Qcow2Image::block_size() const {
    return options_.cache == CacheMode::None ? slot_.store->file().direct_alignment : 512;
}

Result<std::unique_ptr<DiskQueue>> Qcow2Image::open_queue(EventLoop& loop, DiskClient& client) {
    auto port = TRY(qcow2::QueuePort::create(options_.engine, loop));
    return Result<std::unique_ptr<DiskQueue>>(
        std::make_unique<qcow2::Qcow2Queue>(slot_, std::move(port), client));
}

void Qcow2Image::on_resize(std::function<void()> function) {
    const std::lock_guard lock(resized_mutex_);
    resized_ = std::move(function);
}

Result<void> Qcow2Image::resize(uint64_t size) {
    qcow2::Store& store = *slot_.store;
    if (size < store.size() || size % 512 != 0) {
        return Error::invalid(
            "{} has {} bytes; a running disk can only grow, by multiples of 512, "
            "not to {}",
            options_.path, store.size(), size);
    }
    qcow2::BlockingPort port;
    bitmaps_->prepare_resize(size);
    const int status = qcow2::run_waiting(port, store.resize(port, size));
    if (status < 0) {
        return store.error_of(status, "resizing");
    }
    const std::lock_guard lock(resized_mutex_);
    if (resized_) {
        resized_();
    }
    return {};
}

Result<std::unique_ptr<qcow2::DirtyBitmaps>> Qcow2Image::move_bitmaps(qcow2::Store& to) {
    qcow2::BlockingPort port;
    auto moved = std::make_unique<qcow2::DirtyBitmaps>(to);
    TRY(moved->load(port));
    const auto known = bitmaps_->list();
    for (const qcow2::BitmapInfo& bitmap : known) {
        if (bitmap.inconsistent) {
            continue;
        }
        std::vector<std::pair<uint64_t, uint64_t>> ranges;
        TRY(bitmaps_->for_each_dirty(bitmap.name, [&](uint64_t offset, uint64_t size) {
            ranges.emplace_back(offset, size);
            return true;
        }));
        TRY(moved->add(bitmap.name, bitmap.granularity, bitmap.persistent, bitmap.enabled));
        TRY(moved->mark(bitmap.name, ranges));
    }
    for (const qcow2::BitmapInfo& bitmap : known) {
        TRY(bitmaps_->remove(bitmap.name));
    }
    return moved;
}

void Qcow2Image::adopt(std::unique_ptr<qcow2::Store> store,
                       std::unique_ptr<qcow2::DirtyBitmaps> bitmaps) {
    slot_.store = std::move(store);
    bitmaps_ = std::move(bitmaps);
    options_.path = slot_.store->path();
}

Result<void> Qcow2Image::switch_to_overlay(std::unique_ptr<qcow2::Store> overlay) {
    auto moved = TRY(move_bitmaps(*overlay));
    TRY(close());
    // One writer becomes one of many readers.
    TRY(qcow2::lock_host_file(slot_.store->file(), false));
    bitmaps_.reset();
    overlay->replace_backing(std::move(slot_.store));
    adopt(std::move(overlay), std::move(moved));
    return {};
}

Result<void> Qcow2Image::switch_to_base(std::unique_ptr<qcow2::Store> base) {
    qcow2::BlockingPort port;
    auto moved = TRY(move_bitmaps(*base));
    if (const int status = qcow2::run_waiting(port, base->flush(port)); status < 0) {
        return base->error_of(status, "flushing");
    }
    TRY(close());
    bitmaps_.reset();
    auto old = slot_.store->release_backing();
    if (auto* image = dynamic_cast<qcow2::Store*>(old.get())) {
        base->replace_backing(image->release_backing());
    }
    adopt(std::move(base), std::move(moved));
    return {};
}

Result<void> Qcow2Image::forget_backing() {
    qcow2::BlockingPort port;
    qcow2::Store& store = *slot_.store;
    if (const int status = qcow2::run_waiting(port, store.flush(port)); status < 0) {
        return store.error_of(status, "flushing");
    }
    qcow2::Header header = store.header();
    header.backing_file.clear();
    header.backing_format.clear();
    TRY(store.write_header(port, header));
    store.replace_backing(nullptr);
    return {};
}

}  // namespace kumoi::hypervisor
