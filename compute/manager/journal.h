// Journal: what this node is doing, on disk before it does it. After the daemon died at any
// instant, open_operations() names every verb that had begun and not ended; recovery finishes or
// undoes each.
//
// One append-only file, one record a line: 16 hexadecimal digits (the start of the SHA-256 of the
// rest), a space, a JSON object. begin() returns once the record is on stable storage; records of
// concurrent callers share one fdatasync (group commit). step() and done() only reach the page
// cache: they survive the death of the daemon, and losing them with the power merely repeats
// idempotent work. A torn last record is dropped at open; a damaged one in the middle is skipped
// and counted. The file is rewritten with the open operations alone when it grows past its limit.
// Any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"
#include "compute/manager/conductor_api.h"

namespace kumoi::compute {

struct OpenOperation {
    uint64_t id = 0;
    std::string verb;  // "build", "terminate", ...
    std::string instance_uuid;
    RequestContext context;
    std::vector<std::string> steps;  // those that were reached
};

struct JournalOptions {
    bool sync = true;                // false only where nothing real is at stake (simulated driver)
    uint64_t size_max = 4u << 20;    // bytes; then it is compacted
    std::function<void()> on_write;  // called before each record: a test's crash point
};

class Journal {
public:
    static Result<std::unique_ptr<Journal>> open(const std::string& path, const Clock& clock,
                                                 JournalOptions options = {});

    Result<uint64_t> begin(std::string_view verb, std::string_view instance_uuid,
                           const RequestContext& context);
    // A failed write is logged and else ignored: recovery does not depend on these two.
    void step(uint64_t operation, std::string_view name);
    void done(uint64_t operation);

    std::vector<OpenOperation> open_operations() const;  // in the order they began
    uint64_t damaged_records() const { return damaged_records_; }

private:
    struct Entry {
        OpenOperation operation;
        std::string lines;  // its records, for compaction
    };

    Journal(std::string path, const Clock& clock, JournalOptions options);
    Result<void> load();
    bool apply(const Json& record, std::string_view line);
    Result<void> append(uint64_t operation, const Json& record, bool durable);
    Result<void> flush(std::unique_lock<std::mutex>& lock, bool sync);
    Result<void> compact();

    const std::string path_;
    const Clock& clock_;
    const JournalOptions options_;
    uint64_t damaged_records_ = 0;  // written by load() alone

    mutable std::mutex mutex_;  // guards everything below; released while the file is written
    std::condition_variable flushed_;
    UniqueFd file_;
    uint64_t file_size_ = 0;
    std::map<uint64_t, Entry> open_;
    uint64_t next_operation_ = 1;
    std::string pending_;    // records not written yet
    uint64_t appended_ = 0;  // records ever appended; the next two count up to it
    uint64_t written_ = 0;
    uint64_t synced_ = 0;
    bool flushing_ = false;  // one thread writes at a time
    int durable_waiters_ = 0;
    uint64_t failed_ = 0;  // records up to here went down with the flush that failed last ...
    Error failure_;        // ... for this reason
};

}  // namespace kumoi::compute
