// The params of the control methods of a migration (docs/reference/vmm-control.md), and what they
// bring: connected sockets and the journal's file.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "base/uuid.h"
#include "hypervisor/sandbox/file_source.h"
#include "migration/handover/agent.h"
#include "migration/handover/destination.h"
#include "migration/handover/journal.h"
#include "migration/handover/source.h"
#include "migration/source/copy_job.h"
#include "migration/stream/stream_socket.h"

namespace kumoi::migration {

struct MigrationRequest {
    Uuid id;
    std::string journal;                   // absolute path
    uint64_t epoch = 0;                    // the source's
    std::vector<std::string> copied;       // disks that come with the stream
    std::vector<std::string> connections;  // names; the first is the control stream
    CopyJob::Options options;              // source only
    bool post_copy = false;                // the same: it may end so
    uint64_t dirty_limit = 0;              // the same: bytes a second a vCPU at most; 0: by need
    bool free_page_hints = true;           // the same: ask the guest what is free

    static Result<MigrationRequest> parse(const Json& params, HandoverRole role);
};

struct ReconnectRequest {
    Uuid id;
    std::vector<std::string> connections;
    static Result<ReconnectRequest> parse(const Json& params);
};

// What the agents know of the other side.
struct VerdictRequest {
    enum class View { Committed, Aborted, Declined, Owner, Fenced };
    Uuid id;
    View view = View::Committed;
    uint64_t lease_epoch = 0;  // Fenced
    static Result<VerdictRequest> parse(const Json& params);
    // Tells one end what is known of the other; InvalidArgument where its peer cannot be that.
    Result<void> apply(SourceHandover& handover) const;
    Result<void> apply(DestinationHandover& handover) const;
};

Result<std::vector<std::unique_ptr<StreamSocket>>> take_connections(
    hypervisor::FileSource& files, const std::vector<std::string>& names);
Result<HandoverJournal> take_journal(hypervisor::FileSource& files, const std::string& path,
                                     const HandoverTerms& terms, const Clock& clock);

}  // namespace kumoi::migration
