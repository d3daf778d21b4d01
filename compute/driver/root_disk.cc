#include "compute/driver/root_disk.h"

#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/subprocess.h"
#include "compute/driver/disk_file.h"
#include "compute/images/qcow2_file.h"

namespace kumoi::compute {
namespace {

constexpr uint64_t kGib = uint64_t{1} << 30;
constexpr uint64_t kSector = 512;

Result<void> check_fits(uint64_t image_size, int64_t root_gb) {
    const uint64_t wanted = static_cast<uint64_t>(root_gb) * kGib;
    if (root_gb > 0 && image_size > wanted) {
        return Error::invalid(
                   "Flavor's disk is too small for requested image. Flavor disk is {} "
                   "bytes, image is {} bytes.",
                   wanted, image_size)
            .with_hint("Choose a flavor with a larger disk.")
            .with_fault("FlavorDiskSmallerThanImage");
    }
    return {};
}

// What is there may be somebody's disk, and what fails is removed.
Result<void> check_free(const std::string& path) {
    if (path_exists(path)) {
        return Error::conflict("{} exists already", path);
    }
    return {};
}

// False where this file system has no (more) links: the disk becomes a copy then.
Result<bool> link_base(const std::string& image, const std::string& base) {
    TRY(remove_file(base));
    if (::link(image.c_str(), base.c_str()) == 0) {
        return true;
    }
    const int error = errno;
    if (error == EXDEV || error == EMLINK || error == EPERM || error == EOPNOTSUPP) {
        log_warn("driver", "the disk becomes a full copy: its image cannot be linked",
                 {{"image", image}, {"errno", error}});
        return false;
    }
    return Error::from_errno(error, fmt::format("linking {} to {}", base, image));
}

Result<void> make_overlay(const CachedImage& image, uint64_t size, const std::string& path,
                          const RootDiskOptions& options) {
    const std::string base = base_of(path);
    // Relative, so that the folder may be renamed and copied.
    const std::string name = base.substr(base.rfind('/') + 1);
    TRY_CONTEXT(run_checked({options.img_path, "create", "-b", name, "-F", image.format, path,
                             std::to_string(size)}),
                "making a linked clone of the image");
    return {};
}

}  // namespace

std::string base_of(const std::string& disk) {
    return disk + ".base";
}

Result<std::string> make_root_disk(const CachedImage& image, int64_t root_gb,
                                   const std::string& path, const RootDiskOptions& options) {
    TRY(check_fits(image.size, root_gb));
    TRY(check_free(path));
    const uint64_t wanted = root_gb > 0 ? static_cast<uint64_t>(root_gb) * kGib : image.size;
    const uint64_t size = (wanted + kSector - 1) / kSector * kSector;
    if (options.use_cow_images && TRY(link_base(image.path, base_of(path)))) {
        auto made = make_overlay(image, size, path, options);
        if (!made.ok()) {
            (void)remove_file(base_of(path));
            (void)remove_file(path);
            return std::move(made).error();
        }
        return std::string("qcow2");
    }
    if (image.format == "raw") {
        TRY(copy_sparse(image.path, path));
    } else {
        TRY(flatten_root_disk({image.path, image.format}, path, "raw", options));
    }
    auto grown = grow_disk(path, size);
    if (!grown.ok()) {
        (void)remove_file(path);
        return std::move(grown).error();
    }
    return std::string("raw");
}

Result<RootDisk> root_disk(const InstanceFolder& folder) {
    RootDisk disk{folder.disk(), "raw"};
    if (!path_exists(folder.disk_info())) {
        return disk;
    }
    const Json info = TRY(Json::parse(TRY(read_file(folder.disk_info()))));
    disk.format = info.string_or("disk", "raw");
    if (disk.format != "raw" && disk.format != "qcow2") {
        return Error::corrupt("{} says that the disk has format '{}'", folder.disk_info(),
                              disk.format)
            .with_hint("raw and qcow2 are possible.");
    }
    return disk;
}

Result<void> record_root_disk(const InstanceFolder& folder, const std::string& format) {
    return write_file_atomic(folder.disk_info(), Json::object({{"disk", format}}).dump(), 0600);
}

Result<uint64_t> virtual_size(const RootDisk& disk) {
    return disk.format == "qcow2" ? qcow2_virtual_size(disk.path) : file_size(disk.path);
}

Result<void> grow_root_disk(const RootDisk& disk, uint64_t size, const RootDiskOptions& options) {
    if (disk.format == "raw") {
        return grow_disk(disk.path, size);
    }
    if (TRY(virtual_size(disk)) >= size) {
        return {};
    }
    TRY_CONTEXT(run_checked({options.img_path, "resize", "-f", disk.format, disk.path,
                             std::to_string(size)}),
                "enlarging the root disk");
    return {};
}

Result<void> flatten_root_disk(const RootDisk& disk, const std::string& to,
                               const std::string& format, const RootDiskOptions& options) {
    if (disk.format == "raw" && format == "raw") {
        return copy_sparse(disk.path, to);
    }
    TRY(check_free(to));
    CommandOptions command;
    command.timeout_ms = options.convert_timeout_ms;
    const auto converted = run_checked(
        {options.img_path, "convert", "-f", disk.format, "-O", format, disk.path, to}, command);
    if (!converted.ok()) {
        (void)remove_file(to);
        return Error(converted.error()).with_context("copying the disk");
    }
    return {};
}

}  // namespace kumoi::compute
