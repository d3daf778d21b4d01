// kumoi server backup: full and incremental backups of a server's root disk on this host, running
// or not, into a folder (docs/reference/server-backup.md). Works on the server's folder and its
// kumoi-vmm, with or without kumoi-compute; needs the rights of the user that runs it. Blocking.
//
// The folder's backup.json lists the backups. An entry is written as "begun" before anything
// happens and becomes "whole" at the end: after a backup that was cut short in between nobody knows
// what the bitmap has lost, so the next one must be full.
#pragma once

#include <string>

#include "api/cli/session.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

struct BackupOptions {
    std::string server;
    std::string folder;
    bool incremental = false;
};
Result<void> backup_server(Session& session, const BackupOptions& options);

Result<void> list_backups(Session& session, const std::string& folder);

struct RestoreOptions {
    std::string folder;
    int64_t id = 0;                // 0: the last one
    std::string output;            // a new file, or
    std::string server;            // a stopped server of this host, whose disk is replaced
    std::string format = "qcow2";  // of `output`
};
Result<void> restore_backup(Session& session, const RestoreOptions& options);

// Whether an incremental backup may follow what the manifest lists; the error says why not.
Result<void> check_incremental(const Json& manifest);

}  // namespace kumoi::cli
