// FolderClient: brings a folder over from the host that offers it (FolderServer). Survives cut
// connections, restarts of either side and crashes of this one: what is on disk is noted in the
// folder (".transfer.json") and not fetched again. Each file is checked against the digest the
// source computes. One thread; blocks.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "migration/transfer/frame_stream.h"
#include "migration/transfer/manifest.h"
#include "migration/transfer/secure_channel.h"

namespace kumoi::transfer {

struct PullOptions {
    std::string identity;
    std::string secret;
    std::string folder;     // made when absent; what is in it of another transfer goes
    int attempts_max = 30;  // in a row that bring nothing new
    int64_t wait_ms_max = 10'000;
    uint64_t checkpoint_bytes = 64u << 20;  // between two notes of what is on disk
    ChannelTimeouts timeouts;
};

struct PullReport {
    uint64_t bytes = 0;   // that came over, this time
    int connections = 0;  // that were made
    int64_t duration_ns = 0;
};

class FolderClient {
public:
    struct Borders {
        const Clock& clock;
        std::function<Result<UniqueFd>()> connect;      // a connected stream socket
        std::function<void(int64_t nanoseconds)> wait;  // before another attempt
    };
    FolderClient(Borders borders, PullOptions options)
        : borders_(std::move(borders)), options_(std::move(options)) {}

    Result<PullReport> pull();

private:
    // What the note in the folder says.
    struct Progress {
        Manifest manifest;
        std::vector<uint64_t> on_disk;  // bytes of each file that need not come again
        std::vector<bool> complete;     // each: checked
        bool all = false;
    };
    Result<void> load();
    Result<void> save() const;
    Result<void> begin(Manifest manifest);
    Result<void> session();
    Result<void> fetch(FrameStream& stream, uint32_t index);
    Result<void> receive_file(FrameStream& stream, uint32_t index, int fd);
    Result<void> check_space() const;
    std::string note() const { return options_.folder + "/.transfer.json"; }

    const Borders borders_;
    const PullOptions options_;
    Progress progress_;
    PullReport report_;
    int mismatches_ = 0;
};

}  // namespace kumoi::transfer
