#include "hypervisor/block/disk_open.h"

#include "base/clock.h"
#include "hypervisor/block/leased_image.h"
#include "hypervisor/block/live/live_disk.h"
#include "hypervisor/block/qcow2/qcow2_image.h"
#include "hypervisor/block/raw_image.h"

namespace kumoi::hypervisor {

namespace {

const Clock& system_clock() {
    static const SystemClock clock;  // no state
    return clock;
}

}  // namespace

Result<OpenedDisk> open_disk_format(FileSource& files, const DiskOptions& options) {
    OpenedDisk opened;
    if (options.format == DiskFormat::Raw) {
        opened.image = TRY(RawImage::open(files, {.path = options.path,
                                                  .read_only = options.read_only,
                                                  .cache = options.cache,
                                                  .engine = options.engine}));
        opened.raw = static_cast<RawImage*>(opened.image.get());
        return opened;
    }
    auto image = TRY(Qcow2Image::open(files, {.path = options.path,
                                              .read_only = options.read_only,
                                              .cache = options.cache,
                                              .engine = options.engine,
                                              .chain_depth_max = options.chain_depth_max}));
    opened.qcow2 = image.get();
    opened.image = std::move(image);
    return opened;
}

std::unique_ptr<DiskImage> assemble_disk(OpenedDisk opened, std::unique_ptr<DiskLease> lease,
                                         bool read_only) {
    if (lease) {
        opened.image = std::make_unique<LeasedImage>(std::move(opened.image), std::move(lease),
                                                     system_clock());
    }
    if (read_only || (opened.qcow2 == nullptr && opened.raw == nullptr)) {
        return std::move(opened.image);
    }
    return std::make_unique<LiveDisk>(std::move(opened.image), opened.qcow2, opened.raw);
}

Result<std::unique_ptr<DiskImage>> open_disk(FileSource& files, const DiskOptions& options) {
    std::unique_ptr<DiskLease> lease;
    if (!options.lock.lease.empty()) {  // first: opening a qcow2 image may write to it
        lease = TRY_CONTEXT(
            DiskLease::acquire(files, options.lock.lease, options.lock.epoch, options.lock.owner),
            "disk image {}", options.path);
    }
    return assemble_disk(TRY(open_disk_format(files, options)), std::move(lease),
                         options.read_only);
}

}  // namespace kumoi::hypervisor
