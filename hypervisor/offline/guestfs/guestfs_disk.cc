#include "hypervisor/offline/guestfs/guestfs_disk.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

#include <fmt/core.h>

namespace kumoi::hypervisor::offline {
namespace {

constexpr size_t kListMax = 100'000;  // entries of one answer

struct Free {
    void operator()(char* text) const { std::free(text); }
};
using Text = std::unique_ptr<char, Free>;

// libguestfs returns lists ended by a null pointer, all allocated.
std::vector<std::string> take_list(char** list) {
    std::vector<std::string> items;
    for (char** item = list; *item != nullptr; ++item) {
        if (items.size() < kListMax) {
            items.emplace_back(*item);
        }
        std::free(*item);
    }
    std::free(list);
    return items;
}

std::optional<std::string> known(char* value) {
    const Text owned(value);
    if (value == nullptr || std::string_view(value) == "unknown") {
        return std::nullopt;
    }
    return std::string(value);
}

}  // namespace

Error GuestfsDisk::failed(std::string_view what) const {
    const char* reason = guestfs_last_error(handle_);
    return Error::unavailable("{}: {}", what, reason != nullptr ? reason : "libguestfs gave none");
}

Result<void> GuestfsDisk::done(int status, std::string_view what) const {
    if (status == -1) {
        return failed(what);
    }
    return {};
}

Result<std::unique_ptr<GuestfsDisk>> GuestfsDisk::open(const DiskToOpen& disk) {
    guestfs_h* handle = guestfs_create();
    if (handle == nullptr) {
        return Error::exhausted("libguestfs has no memory for a handle");
    }
    std::unique_ptr<GuestfsDisk> made(new GuestfsDisk(handle, disk.writable));
    guestfs_set_error_handler(handle, nullptr, nullptr);  // errors are ours to print
    if (disk.emulate) {
        TRY(made->done(guestfs_set_backend_setting(handle, "force_tcg", "1"), "emulating"));
    }
    TRY(made->done(guestfs_set_network(handle, 0), "turning its network off"));
    TRY(made->done(guestfs_add_drive_opts(handle, disk.path.c_str(),
                                          GUESTFS_ADD_DRIVE_OPTS_READONLY, disk.writable ? 0 : 1,
                                          GUESTFS_ADD_DRIVE_OPTS_FORMAT, disk.format.c_str(), -1),
                   "adding " + disk.path));
    TRY(made->done(guestfs_launch(handle), "starting libguestfs' appliance"));
    return Result<std::unique_ptr<GuestfsDisk>>(std::move(made));
}

GuestfsDisk::~GuestfsDisk() {
    guestfs_close(handle_);
}

Result<void> GuestfsDisk::mount() {
    char** found = guestfs_inspect_os(handle_);
    if (found == nullptr) {
        return failed("looking for an operating system");
    }
    const auto roots = take_list(found);
    if (roots.size() != 1) {
        return Error::not_found("the disk has {} operating systems, one is wanted", roots.size());
    }
    root_ = roots.front();
    char** pairs = guestfs_inspect_get_mountpoints(handle_, root_.c_str());
    if (pairs == nullptr) {
        return failed("reading what it mounts");
    }
    const auto flat = take_list(pairs);
    std::vector<std::pair<std::string, std::string>> mounts;
    for (size_t i = 0; i + 1 < flat.size(); i += 2) {
        mounts.emplace_back(flat[i], flat[i + 1]);
    }
    std::sort(mounts.begin(), mounts.end());  // a parent before what is mounted in it
    for (const auto& [point, device] : mounts) {
        const int status = writable_ ? guestfs_mount(handle_, device.c_str(), point.c_str())
                                     : guestfs_mount_ro(handle_, device.c_str(), point.c_str());
        if (status == -1 && point == "/") {
            return failed("mounting " + device);
        }  // others may be gone: fstab names disks that are not here
    }
    const auto type = known(guestfs_inspect_get_type(handle_, root_.c_str()));
    linux_ = type == "linux";
    return {};
}

Result<Json> GuestfsDisk::describe() {
    Json about = Json::object();
    const char* root = root_.c_str();
    const auto add = [&](const char* key, char* value) {
        if (auto text = known(value)) {
            about.set(key, *text);
        }
    };
    add("type", guestfs_inspect_get_type(handle_, root));
    add("distribution", guestfs_inspect_get_distro(handle_, root));
    add("product", guestfs_inspect_get_product_name(handle_, root));
    add("architecture", guestfs_inspect_get_arch(handle_, root));
    add("hostname", guestfs_inspect_get_hostname(handle_, root));
    add("package_format", guestfs_inspect_get_package_format(handle_, root));
    const int major = guestfs_inspect_get_major_version(handle_, root);
    const int minor = guestfs_inspect_get_minor_version(handle_, root);
    if (major > 0) {
        about.set("version", fmt::format("{}.{}", major, std::max(minor, 0)));
    }
    char** pairs = guestfs_mountpoints(handle_);
    if (pairs == nullptr) {
        return failed("listing what is mounted");
    }
    const auto flat = take_list(pairs);
    Json mounted = Json::object();
    for (size_t i = 0; i + 1 < flat.size(); i += 2) {
        mounted.set(flat[i + 1], flat[i]);
    }
    about.set("file_systems", std::move(mounted));
    return about;
}

Result<void> GuestfsDisk::close() {
    TRY(done(guestfs_umount_all(handle_), "unmounting"));
    return done(guestfs_shutdown(handle_), "writing the disk");
}

Result<bool> GuestfsDisk::exists(const std::string& path) {
    const int answer = guestfs_exists(handle_, path.c_str());
    TRY(done(answer, path));
    return answer == 1;
}

Result<bool> GuestfsDisk::is_directory(const std::string& path) {
    const int answer = guestfs_is_dir(handle_, path.c_str());
    TRY(done(answer, path));
    return answer == 1;
}

Result<std::string> GuestfsDisk::read(const std::string& path) {
    const int regular =
        guestfs_is_file_opts(handle_, path.c_str(), GUESTFS_IS_FILE_OPTS_FOLLOWSYMLINKS, 1, -1);
    TRY(done(regular, path));
    const int64_t size = regular == 1 ? guestfs_filesize(handle_, path.c_str()) : 0;
    if (regular != 1 || size < 0 || static_cast<uint64_t>(size) > kReadMax) {
        return Error::corrupt("{} of the guest is no file of at most {} bytes", path, kReadMax);
    }
    size_t length = 0;
    const Text content(guestfs_read_file(handle_, path.c_str(), &length));
    if (content == nullptr) {
        return failed("reading " + path);
    }
    return std::string(content.get(), length);
}

Result<void> GuestfsDisk::write(const std::string& path, std::string_view content, uint32_t mode) {
    const bool fresh = !TRY(exists(path));
    TRY(done(guestfs_write(handle_, path.c_str(), content.data(), content.size()),
             "writing " + path));
    if (fresh) {
        TRY(chmod(path, mode));
    }
    return {};
}

Result<void> GuestfsDisk::make_directory(const std::string& path, uint32_t mode) {
    if (TRY(is_directory(path))) {
        return {};
    }
    TRY(done(guestfs_mkdir_p(handle_, path.c_str()), "making " + path));
    return chmod(path, mode);
}

Result<void> GuestfsDisk::own(const std::string& path, Owner owner) {
    return done(guestfs_chown(handle_, static_cast<int>(owner.uid), static_cast<int>(owner.gid),
                              path.c_str()),
                "giving " + path + " to its owner");
}

Result<void> GuestfsDisk::chmod(const std::string& path, uint32_t mode) {
    return done(guestfs_chmod(handle_, static_cast<int>(mode), path.c_str()),
                "setting the rights of " + path);
}

Result<void> GuestfsDisk::remove(const std::string& path) {
    return done(guestfs_rm_rf(handle_, path.c_str()), "removing " + path);
}

Result<std::vector<std::string>> GuestfsDisk::glob(const std::string& pattern) {
    char** found = guestfs_glob_expand(handle_, pattern.c_str());
    if (found == nullptr) {
        return failed("looking for " + pattern);
    }
    return take_list(found);
}

}  // namespace kumoi::hypervisor::offline
