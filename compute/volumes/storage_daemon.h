// StorageDaemon: the one qemu-storage-daemon that serves one attached volume to one guest, over
// vhost-user-blk: starting it, finding it again, ending it. Its folder (docs/reference/volumes.md):
//
//     record.json     what it serves and which process it is; ours alone
//     log             what it says
//     run/disk.sock   where guests connect       run/qmp.sock    where it takes orders
//
// The daemon runs as a user of its own that only owns run/. It is told what to serve over QMP, so
// that no secret is on its command line. It lives in a session of its own and outlives this
// program; pid and start time together say which process it is. Calls block; one thread at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"
#include "compute/volumes/connection_info.h"
#include "compute/volumes/qmp_client.h"

namespace kumoi::compute {

struct StorageDaemonOptions {
    std::string program;     // qemu-storage-daemon
    uint32_t uid_first = 0;  // of the daemons' users; 0: all run as we do
    int64_t start_timeout_ms = 10'000;
    int64_t open_timeout_ms = 60'000;  // of reaching the volume
    int64_t call_timeout_ms = 10'000;
    int64_t copy_timeout_ms = 4 * 3600 * 1000;  // of one swap
    VolumeSourceOptions source;
};

class StorageDaemon {
public:
    // What record.json keeps.
    struct Record {
        std::string instance_uuid;
        std::string volume_id;
        Json connection_info;
        std::string node;  // its name in the process
        pid_t pid = 0;
        uint64_t start_ticks = 0;
        // While a swap is under way: what is copied to.
        std::string next_volume_id;
        Json next_connection_info;
    };

    StorageDaemon(const StorageDaemonOptions& options, std::string folder)
        : options_(options), folder_(std::move(folder)) {}

    static Result<Record> read_record(const std::string& folder);
    const std::string& folder() const { return folder_; }
    std::string socket() const { return folder_ + "/run/disk.sock"; }
    std::string qmp_socket() const { return folder_ + "/run/qmp.sock"; }
    const Record& record() const { return record_; }

    // Makes the folder for this volume; no process yet.
    Result<void> create(Record record);
    // Takes over what is in the folder, with the process if it lives and serves.
    Result<void> adopt(Record record);
    bool is_alive() const;
    UniqueFd open_process() const;  // a pidfd, closed when it has ended already
    // A process that serves the volume; one that is there is ended first.
    Result<void> start();
    Result<void> stop() { return kill(); }
    // Ends the process and removes the folder.
    Result<void> remove();

    // Guests lose their connection and find the new size when they are connected again: the
    // daemons of Debian 12 do not tell it otherwise.
    Result<void> resize(uint64_t size);
    // Copies to another volume and serves that from then on. The old one is closed.
    Result<void> swap(const std::string& volume_id, const Json& connection_info);
    Result<void> rename(const std::string& volume_id);

private:
    Result<void> save() const;
    Result<void> make_run_folder() const;
    Result<pid_t> spawn(const VolumeSource& source) const;
    Result<void> serve(QmpClient& qmp, const VolumeSource& source) const;
    Result<void> add_export(QmpClient& qmp, bool writable) const;
    Result<void> end_export(QmpClient& qmp) const;
    Result<void> kill();
    Result<QmpClient> monitor() const;
    Result<QmpClient> wait_monitor() const;
    Result<std::string> exported_node(QmpClient& qmp) const;
    Result<void> open_node(QmpClient& qmp, VolumeSource source, const std::string& name) const;
    Result<void> mirror(QmpClient& qmp, const std::string& from, const std::string& to) const;
    Result<void> settle_swap();
    Result<void> take_next();
    std::string next_node() const;
    uint32_t uid() const;
    std::string log_tail() const;

    const StorageDaemonOptions& options_;
    const std::string folder_;
    Record record_;
};

// The command line of one: nothing in it is secret. Pure.
std::vector<std::string> storage_daemon_argv(const StorageDaemonOptions& options, uint32_t uid,
                                             bool low_port, const std::string& qmp_socket);
// The name of a volume's node: at most 31 characters.
std::string node_name(const std::string& volume_id);
// The QMP commands that open a volume under this name. Pure.
std::vector<std::pair<std::string, Json>> open_commands(const VolumeSource& source,
                                                        const std::string& name);

}  // namespace kumoi::compute
