#include "hypervisor/sandbox/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hypervisor/snapshot/working_set.h"
#include "hypervisor/upgrade/heritage.h"

namespace kumoi::hypervisor {

namespace {

using Kind = PassedFiles::Kind;
using Keep = PassedFiles::Keep;

constexpr int kPatienceSteps = 50;  // of 20 ms
constexpr int kPatienceStepMs = 20;
constexpr size_t kSpareRings = 4;        // for disks that are plugged in later
constexpr uint64_t kWorkersPerDisk = 4;  // without io_uring
constexpr uint64_t kOtherThreads = 16;

class Opener {
public:
    explicit Opener(PassedFiles& table, const Heritage* heritage = nullptr)
        : table_(table), heritage_(heritage) {}
    ~Opener() {
        for (const std::string& path : sockets_) {
            ::unlink(path.c_str());
        }
    }
    Opener(const Opener&) = delete;
    Opener& operator=(const Opener&) = delete;

    Result<void> file(const std::string& path, int flags, Keep keep = Keep::Once,
                      unsigned mode = 0644) {
        return table_.put(Kind::File, path, TRY(open_file(path, flags, mode)), keep);
    }
    Result<void> boot_file(const std::string& path, std::string_view what) {
        if (path.empty()) {
            return {};
        }
        TRY_CONTEXT(file(path, O_RDONLY, Keep::Always), "opening the {} {}", what, path);
        return {};
    }
    Result<void> socket(const std::string& path, std::string_view what) {
        if (path.empty()) {
            return {};
        }
        if (heritage_ != nullptr && heritage_->inherited("listen:" + path)) {
            return {};
        }
        auto listener = direct_files().listen(path);
        for (int i = 0;
             i < kPatienceSteps && !listener && listener.error().code == ErrorCode::Conflict; ++i) {
            ::poll(nullptr, 0, kPatienceStepMs);
            listener = direct_files().listen(path);
        }
        UniqueFd fd = TRY_CONTEXT(std::move(listener), "{}", what);
        sockets_.push_back(path);
        return table_.put(Kind::Listener, path, std::move(fd));
    }
    Result<void> log(const std::string& path);
    std::vector<std::string> release_sockets() { return std::exchange(sockets_, {}); }

private:
    PassedFiles& table_;
    const Heritage* heritage_;
    std::vector<std::string> sockets_;
};

// With <path>.1, into which it is copied when it is full; a pipe or device has none.
Result<void> Opener::log(const std::string& path) {
    if (path.empty()) {
        return {};
    }
    constexpr unsigned kMode = 0640;
    UniqueFd fd = TRY_CONTEXT(open_file(path, O_RDWR | O_CREAT | O_APPEND, kMode),
                              "opening the console log {}", path);
    struct stat status {};
    const bool regular = ::fstat(fd.get(), &status) == 0 && S_ISREG(status.st_mode);
    TRY(table_.put(Kind::File, path, std::move(fd)));
    return regular ? file(path + ".1", O_RDWR | O_CREAT, Keep::Once, kMode) : Result<void>{};
}

}  // namespace

Result<std::vector<std::string>> open_host_files(const VmConfig& config,
                                                 const std::string& control_socket,
                                                 PassedFiles& table, const Heritage* heritage) {
    Opener opener(table, heritage);
    if (auto kvm = opener.file("/dev/kvm", O_RDWR); !kvm) {
        const bool absent = kvm.error().code == ErrorCode::NotFound;
        return std::move(kvm).error().with_hint(
            absent ? "load kvm_intel or kvm_amd, and turn virtualization on in the firmware setup"
                   : "run as root or as a member of the group kvm");
    }
    // For saves of the running guest; a host without it says so when one is asked for.
    (void)opener.file("/dev/userfaultfd", O_RDWR, Keep::Always);
    TRY(opener.socket(control_socket, "control socket"));
    TRY(opener.boot_file(config.boot.kernel, "kernel"));
    TRY(opener.boot_file(config.boot.initrd, "initrd"));
    TRY(opener.log(config.serial.log));
    TRY(opener.socket(config.serial.socket, "serial console"));
    TRY(opener.socket(config.console.socket, "virtio console"));
    for (const ChannelConfig& channel : config.channels) {
        TRY(opener.socket(channel.socket, "channel"));
    }
    return opener.release_sockets();
}

void open_working_set(const std::string& snapshot, PassedFiles& table) {
    const std::string path = working_set_path(snapshot);
    Opener opener(table);
    (void)opener.file(path, O_RDONLY);
    (void)opener.file(path, O_WRONLY | O_CREAT, Keep::Once, 0600);
}

size_t rings_needed(const VmConfig& config) {
    size_t count = kSpareRings;
    for (const DiskConfig& disk : config.disks) {
        count += disk.queues;
    }
    return count;
}

uint64_t threads_needed(const VmConfig& config) {
    uint64_t count = config.vcpus + config.nics.size() + kOtherThreads;
    for (const DiskConfig& disk : config.disks) {
        count += disk.queues * (1 + kWorkersPerDisk);
    }
    return count;
}

}  // namespace kumoi::hypervisor
