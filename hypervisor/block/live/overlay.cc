#include "hypervisor/block/live/overlay.h"

#include <fcntl.h>

#include "hypervisor/block/qcow2/blocking_port.h"
#include "hypervisor/block/qcow2/chain.h"
#include "hypervisor/block/qcow2/create.h"

namespace kumoi::hypervisor {

namespace {

// In a sandbox the launcher has made the file; here it may have to be made.
Result<std::unique_ptr<qcow2::HostFile>> open_new(FileSource& files, const std::string& path,
                                                  bool direct) {
    auto file = qcow2::open_host_file(files, path, true, direct, true);
    if (file.ok() || file.error().code != ErrorCode::NotFound) {
        return file;
    }
    TRY_CONTEXT(files.open(path, O_RDWR | O_CREAT | O_EXCL, 0600), "overlay {}", path);
    return qcow2::open_host_file(files, path, true, direct, true);
}

// The disk's images, the present one included.
uint32_t chain_length(qcow2::BlockSource& source) {
    uint32_t length = 1;
    for (qcow2::BlockSource* image = source.backing(); image != nullptr; image = image->backing()) {
        ++length;
    }
    return length;
}

}  // namespace

Result<std::unique_ptr<qcow2::Store>> open_overlay(FileSource& files, Qcow2Image& image,
                                                   const std::string& path,
                                                   const std::string& backing_name) {
    const Qcow2ImageOptions& disk = image.options();
    if (chain_length(image.store()) > disk.chain_depth_max) {
        return Error::too_large("disk {} has {} images below it; {} are allowed", image.name(),
                                chain_length(image.store()) - 1, disk.chain_depth_max)
            .with_hint("shorten the chain with disk_commit or disk_flatten");
    }
    auto file = TRY(open_new(files, path, disk.cache == CacheMode::None));
    if (file->size != 0 || !file->holes_are_zero) {
        return Error::conflict("{} exists and has {} bytes", path, file->size.load())
            .with_hint("an overlay goes to a new file");
    }
    qcow2::BlockingPort port;
    qcow2::CreateOptions create;
    create.size = image.store().size();
    create.backing_file = backing_name.empty() ? image.name() : backing_name;
    create.backing_format = "qcow2";
    TRY(qcow2::create_image(port, *file, create));
    qcow2::StoreOptions options;
    options.l2_cache_bytes = disk.l2_cache_bytes;
    return qcow2::Store::open(port, std::move(file), options, nullptr);
}

}  // namespace kumoi::hypervisor
