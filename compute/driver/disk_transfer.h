// DiskTransfer: how a server's folder gets to another host: the source offers it under a key made
// for this one move, which travels in the move's disk_info; the destination fetches it
// (migration/transfer). What is offered and what is being fetched is noted under
// <instances_path>/_moves, so that both go on after a restart. Any thread; receive() blocks as long
// as the transfer takes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/config.h"
#include "base/random.h"
#include "base/result.h"
#include "migration/transfer/folder_client.h"
#include "migration/transfer/folder_server.h"

namespace kumoi::compute {

struct DiskTransferOptions {
    std::string folder;  // of the notes
    std::string address = "127.0.0.1";
    uint16_t port_first = 0;  // 0: any free one
    uint16_t port_last = 0;
    int attempts_max = 30;  // of a destination, in a row, that bring nothing

    // [DEFAULT] my_ip and [kumoi] migration_ports. InvalidArgument: no range.
    static Result<DiskTransferOptions> from_config(const Config& config,
                                                   const std::string& instances_path);
};

class DiskTransfer {
public:
    DiskTransfer(DiskTransferOptions options, const Clock& clock, Random& random,
                 std::function<void(int64_t nanoseconds)> wait = {});

    // Offers again what was offered before a restart. Files are named by `files`.
    using FilesOf = std::function<Result<std::vector<std::string>>(const std::string& folder)>;
    Result<void> load(const FilesOf& files);
    // The text for the destination; for the same move always the same one.
    Result<std::string> offer(const std::string& uuid, const std::string& migration_uuid,
                              const std::string& folder, std::vector<std::string> files);
    void withdraw(const std::string& uuid);  // unknown is fine

    // Fetches what `disk_info` offers into `folder`; empty: what was asked for before a restart.
    Result<transfer::PullReport> receive(const std::string& uuid, const std::string& disk_info,
                                         const std::string& folder);
    void forget(const std::string& uuid);  // what receive() noted

private:
    std::string sent_note(const std::string& uuid) const {
        return options_.folder + "/" + uuid + ".sent.json";
    }
    std::string wanted_note(const std::string& uuid) const {
        return options_.folder + "/" + uuid + ".wanted.json";
    }
    Result<void> start_server(uint16_t preferred);

    const DiskTransferOptions options_;
    const Clock& clock_;
    Random& random_;
    const std::function<void(int64_t)> wait_;
    std::mutex mutex_;                                // guards the next
    std::unique_ptr<transfer::FolderServer> server_;  // from the first offer on
};

}  // namespace kumoi::compute
