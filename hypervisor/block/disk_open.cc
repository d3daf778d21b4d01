#include "hypervisor/block/disk_open.h"

#include "base/clock.h"
#include "hypervisor/block/leased_image.h"
#include "hypervisor/block/qcow2/qcow2_image.h"
#include "hypervisor/block/raw_image.h"

namespace kumoi::hypervisor {

namespace {

const Clock& system_clock() {
    static const SystemClock clock;  // no state
    return clock;
}

Result<std::unique_ptr<DiskImage>> open_format(FileSource& files, const DiskOptions& options) {
    if (options.format == DiskFormat::Raw) {
        return RawImage::open(files, {.path = options.path,
                                      .read_only = options.read_only,
                                      .cache = options.cache,
                                      .engine = options.engine});
    }
    auto image = TRY(Qcow2Image::open(files, {.path = options.path,
                                              .read_only = options.read_only,
                                              .cache = options.cache,
                                              .engine = options.engine,
                                              .chain_depth_max = options.chain_depth_max}));
    return Result<std::unique_ptr<DiskImage>>(std::move(image));
}

}  // namespace

Result<std::unique_ptr<DiskImage>> open_disk(FileSource& files, const DiskOptions& options) {
    if (options.lock.lease.empty()) {
        return open_format(files, options);
    }
    // The lease first: opening a qcow2 image may write to it.
    auto lease = TRY_CONTEXT(
        DiskLease::acquire(files, options.lock.lease, options.lock.epoch, options.lock.owner),
        "disk image {}", options.path);
    auto image = TRY(open_format(files, options));
    return Result<std::unique_ptr<DiskImage>>(
        std::make_unique<LeasedImage>(std::move(image), std::move(lease), system_clock()));
}

}  // namespace kumoi::hypervisor
