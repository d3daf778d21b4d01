// GuestfsDisk: a stopped guest's disk, opened by libguestfs in its appliance (a small virtual
// machine), its operating system found and its file systems mounted. Needs a kernel for the
// appliance (libguestfs(3), supermin(1)). Blocking: opening takes seconds. One thread.
#pragma once

#include <memory>
#include <string>

#include <guestfs.h>

#include "base/json.h"
#include "hypervisor/offline/guest_files.h"

namespace kumoi::hypervisor::offline {

struct DiskToOpen {
    std::string path;
    std::string format = "raw";  // or "qcow2"; never guessed from a guest's bytes
    bool writable = false;
    bool emulate = false;  // do not use KVM for the appliance
};

class GuestfsDisk final : public GuestFiles {
public:
    static Result<std::unique_ptr<GuestfsDisk>> open(const DiskToOpen& disk);
    ~GuestfsDisk() override;

    // Finds the one operating system on it and mounts its file systems. NotFound: there is none, or
    // several.
    Result<void> mount();
    // {"type", "distribution", "product", "version", "architecture", "hostname", "package_format",
    //  "file_systems": {"/": "/dev/sda1"}}; values a guest did not tell are left out.
    Result<Json> describe();
    bool is_linux() const { return linux_; }
    // Everything written, unmounted and shut down. Without it writes may be lost.
    Result<void> close();

    Result<bool> exists(const std::string& path) override;
    Result<bool> is_directory(const std::string& path) override;
    Result<std::string> read(const std::string& path) override;
    Result<void> write(const std::string& path, std::string_view content, uint32_t mode) override;
    Result<void> make_directory(const std::string& path, uint32_t mode) override;
    Result<void> own(const std::string& path, Owner owner) override;
    Result<void> chmod(const std::string& path, uint32_t mode) override;
    Result<void> remove(const std::string& path) override;
    Result<std::vector<std::string>> glob(const std::string& pattern) override;

private:
    explicit GuestfsDisk(guestfs_h* handle, bool writable) : handle_(handle), writable_(writable) {}
    Error failed(std::string_view what) const;
    Result<void> done(int status, std::string_view what) const;

    guestfs_h* handle_;
    const bool writable_;
    std::string root_;
    bool linux_ = false;
};

}  // namespace kumoi::hypervisor::offline
