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

Result<void> Qcow2Image::switch_to_overlay(FileSource& files, const std::string& overlay) {
    if (options_.read_only) {
        return Error::conflict("disk {} is read-only", options_.path);
    }
    TRY(close());
    bitmaps_.reset();
    slot_.store.reset();  // and its lock: the overlay's chain takes a reader's
    const std::string before = std::exchange(options_.path, overlay);
    auto opened = open_store(files, overlay);
    if (!opened) {
        options_.path = before;
        auto again = open_store(files, before);
        if (!again) {
            return again;
        }
    }
    return opened;
}

}  // namespace kumoi::hypervisor
