// VolumeDaemons: this host's side of volumes (compute::VolumeHost): one qemu-storage-daemon an
// attached volume (storage_daemon.h), each in a folder below `folder`. They are found again after
// this program was restarted, and one that dies is started again until it serves: its guest's
// requests wait that long.
//
// Threads: any; calls about one volume wait for each other. One thread of its own watches the
// processes.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/fd.h"
#include "base/random.h"
#include "compute/manager/volume_api.h"
#include "compute/volumes/storage_daemon.h"

namespace kumoi::compute {

struct VolumeDaemonsOptions {
    std::string folder;
    std::string host;     // as Cinder is told
    std::string host_ip;  // the address storage sees
    StorageDaemonOptions daemon;
};

class VolumeDaemons final : public VolumeHost {
public:
    // A back end was started anew: a guest that runs must be connected to it. Any thread.
    using Restarted = std::function<void(const std::string& uuid, const std::string& volume_id)>;

    static Result<std::unique_ptr<VolumeDaemons>> create(VolumeDaemonsOptions options,
                                                         Random& random);
    ~VolumeDaemons() override;

    // Finds what is there, starts again what has ended, and watches from now on.
    void start(Restarted restarted);
    void stop();  // watches no longer; back ends and guests go on

    Result<Json> connector() override;
    Result<std::string> connect(const std::string& instance_uuid, const std::string& volume_id,
                                const Json& connection_info) override;
    Result<void> disconnect(const std::string& instance_uuid,
                            const std::string& volume_id) override;
    Result<void> extend(const std::string& instance_uuid, const std::string& volume_id,
                        uint64_t size) override;
    Result<void> swap(const std::string& instance_uuid, const std::string& old_volume_id,
                      const std::string& new_volume_id, const Json& connection_info) override;
    Result<void> rename(const std::string& instance_uuid, const std::string& volume_id,
                        const std::string& new_volume_id) override;
    std::set<Connected> connected() override;

private:
    struct Entry {
        explicit Entry(StorageDaemon of) : daemon(std::move(of)) {}
        std::mutex mutex;  // guards the rest
        StorageDaemon daemon;
        bool gone = false;
        int failures = 0;           // starts in a row
        int64_t next_start_ns = 0;  // of the clock; while it does not run
    };
    using Entries = std::map<Connected, std::shared_ptr<Entry>>;

    VolumeDaemons(VolumeDaemonsOptions options, std::string initiator, Random& random)
        : options_(std::move(options)), initiator_(std::move(initiator)), random_(random) {}
    Result<void> load();
    std::shared_ptr<Entry> find(const Connected& key) const;
    Entries entries() const;
    void forget(const Connected& key);
    void wake();
    void watch();
    // Starts it again when it does not run and its time has come; when to look again.
    int64_t look_after(const Connected& key, Entry& entry, int64_t now_ns);
    // Waits until a process ends, something changed, or that long.
    void sleep(const Entries& all, int64_t nanoseconds);

    const VolumeDaemonsOptions options_;
    const std::string initiator_;
    Random& random_;
    SystemClock clock_;
    UniqueFd wake_;
    mutable std::mutex mutex_;  // guards the next
    Entries entries_;
    Restarted restarted_;
    std::atomic<bool> stopping_{false};
    std::thread watcher_;
};

// For simulated guests: volumes are connected in name only.
class NoVolumeDaemons final : public VolumeHost {
public:
    NoVolumeDaemons(std::string host, std::string host_ip)
        : host_(std::move(host)), host_ip_(std::move(host_ip)) {}
    Result<Json> connector() override;
    Result<std::string> connect(const std::string& instance_uuid, const std::string& volume_id,
                                const Json& connection_info) override;
    Result<void> disconnect(const std::string& instance_uuid,
                            const std::string& volume_id) override;
    Result<void> extend(const std::string& instance_uuid, const std::string& volume_id,
                        uint64_t size) override;
    Result<void> swap(const std::string& instance_uuid, const std::string& old_volume_id,
                      const std::string& new_volume_id, const Json& connection_info) override;
    Result<void> rename(const std::string& instance_uuid, const std::string& volume_id,
                        const std::string& new_volume_id) override;
    std::set<Connected> connected() override;

private:
    const std::string host_, host_ip_;
    std::mutex mutex_;
    std::set<Connected> connected_;
};

// os-brick's connector properties of this host.
Json connector_properties(const std::string& host, const std::string& host_ip,
                          const std::string& initiator);
// Of the host's open-iscsi when it has one, else one made once and kept in `folder`.
Result<std::string> host_initiator(const std::string& folder, Random& random);

}  // namespace kumoi::compute
