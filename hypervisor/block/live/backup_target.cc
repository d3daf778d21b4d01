#include "hypervisor/block/live/backup_target.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/fd.h"
#include "base/file.h"
#include "hypervisor/block/qcow2/blocking_port.h"
#include "hypervisor/block/qcow2/create.h"
#include "hypervisor/block/qcow2/store.h"

namespace kumoi::hypervisor {

namespace {

using qcow2::BlockingPort;
using qcow2::run_waiting;
using qcow2::Store;

// Stands for the earlier backup, which is not opened: only whole clusters are written, so nothing
// of it is ever read, and a zero must be stored as one because something may be behind it.
class UnreadBacking final : public qcow2::BlockSource {
public:
    UnreadBacking(std::string path, uint64_t size) : path_(std::move(path)), size_(size) {}
    const std::string& path() const override { return path_; }
    uint64_t size() const override { return size_; }
    qcow2::Task<int> read(qcow2::IoPort&, uint64_t, std::span<const iovec>, uint64_t) override {
        co_return -EIO;
    }
    qcow2::Task<int> map(qcow2::IoPort&, uint64_t offset, uint64_t size,
                         qcow2::MappedExtent& extent) override {
        extent = {offset, size, qcow2::ExtentKind::Data, 0, 0};
        co_return 0;
    }
    qcow2::BlockSource* backing() override { return nullptr; }

private:
    const std::string path_;
    const uint64_t size_;
};

class RawTarget final : public BackupTarget {
public:
    RawTarget(std::string path, UniqueFd file)
        : BackupTarget(std::move(path)), file_(std::move(file)) {}
    Result<void> write(uint64_t offset, std::span<std::byte> bytes) override {
        TRY_CONTEXT(pwrite_all(file_.get(), bytes, offset), "writing {}", path());
        return {};
    }
    Result<void> zero(uint64_t, uint64_t) override { return {}; }  // a hole already
    Result<void> finish() override {
        if (::fdatasync(file_.get()) != 0) {
            return Error::from_errno(errno, "syncing " + path());
        }
        return {};
    }

private:
    const UniqueFd file_;
};

class Qcow2Target final : public BackupTarget {
public:
    explicit Qcow2Target(std::unique_ptr<Store> store)
        : BackupTarget(store->path()), store_(std::move(store)) {}
    Result<void> write(uint64_t offset, std::span<std::byte> bytes) override {
        const iovec vector{bytes.data(), bytes.size()};
        return checked(
            run_waiting(port_, store_->write(port_, offset, std::span(&vector, 1), bytes.size())));
    }
    Result<void> zero(uint64_t offset, uint64_t size) override {
        if (store_->backing() == nullptr) {
            return {};  // nothing is behind what was never written
        }
        return checked(run_waiting(port_, store_->zero(port_, offset, size, true)));
    }
    Result<void> finish() override { return store_->close(port_); }

private:
    Result<void> checked(int status) const {
        return status < 0 ? Result<void>(store_->error_of(status, "writing the backup to"))
                          : Result<void>();
    }
    BlockingPort port_;
    std::unique_ptr<Store> store_;
};

Result<std::unique_ptr<BackupTarget>> create_raw(const BackupTargetOptions& options, UniqueFd fd) {
    if (!options.backing_file.empty()) {
        return Error::invalid("a raw file cannot hold an incremental backup")
            .with_hint("use format qcow2");
    }
    if (::ftruncate(fd.get(), static_cast<off_t>(options.size)) != 0) {
        return Error::from_errno(errno, "making " + options.path);
    }
    return Result<std::unique_ptr<BackupTarget>>(
        std::make_unique<RawTarget>(options.path, std::move(fd)));
}

}  // namespace

Result<std::unique_ptr<BackupTarget>> BackupTarget::create(FileSource& files,
                                                           const BackupTargetOptions& options) {
    UniqueFd fd = TRY_CONTEXT(files.open(options.path, O_RDWR | O_CREAT, 0600), "backup file {}",
                              options.path);
    auto file = TRY(qcow2::adopt_host_file(options.path, std::move(fd), UniqueFd()));
    if (file->size != 0 || !file->holes_are_zero) {
        return Error::conflict("{} exists and has {} bytes", options.path, file->size.load())
            .with_hint("a backup goes to a new file");
    }
    if (options.format == DiskFormat::Raw) {
        return create_raw(options, std::move(file->owned));
    }
    BlockingPort port;
    qcow2::CreateOptions create;
    create.size = options.size;
    create.backing_file = options.backing_file;
    create.backing_format = options.backing_format;
    TRY(qcow2::create_image(port, *file, create));
    std::unique_ptr<qcow2::BlockSource> backing;
    if (!options.backing_file.empty()) {
        backing = std::make_unique<UnreadBacking>(options.backing_file, options.size);
    }
    auto store = TRY(Store::open(port, std::move(file), {}, std::move(backing)));
    return Result<std::unique_ptr<BackupTarget>>(std::make_unique<Qcow2Target>(std::move(store)));
}

}  // namespace kumoi::hypervisor
