// LiveMigrations: the live migrations that leave this host: how far each is, what it was asked
// meanwhile, and whose turn it is when only some may run. Any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "base/result.h"
#include "compute/driver/live_migration.h"

namespace kumoi::compute {

class LiveMigrations {
public:
    enum class Stage { Queued, Preparing, Running };

    explicit LiveMigrations(int64_t running_max) : running_max_(running_max) {}

    // Calls `start` now, or when another has ended; finished() frees the turn again. Conflict: the
    // server has one already.
    Result<void> enqueue(const std::string& uuid, int64_t migration_id,
                         std::function<Result<void>()> start);
    // One that runs already when this daemon is started.
    void adopt(const std::string& uuid, int64_t migration_id);
    void finished(const std::string& uuid);

    // False: it was aborted meanwhile.
    bool advance(const std::string& uuid, Stage stage);
    // Before it runs: noted, and what it was is returned. A queued one is gone with that.
    // InvalidMigrationState: this migration is not here.
    Result<Stage> abort(const std::string& uuid, int64_t migration_id);
    std::optional<int64_t> migration_of(const std::string& uuid) const;

    // Servers of which nobody can tell where their guest is.
    void set_undecided(const std::string& uuid, bool undecided);
    bool is_undecided(const std::string& uuid) const;

    void set_progress(const std::string& uuid, const LiveMigrationProgress& progress);
    std::optional<LiveMigrationProgress> progress(const std::string& uuid) const;

private:
    struct Entry {
        int64_t migration_id = 0;
        Stage stage = Stage::Queued;
        bool aborted = false;
        bool has_turn = false;
        std::function<Result<void>()> start;
        LiveMigrationProgress progress;
    };
    void start_next();

    const int64_t running_max_;  // 0: any number
    mutable std::mutex mutex_;   // guards the rest
    std::map<std::string, Entry> entries_;
    std::deque<std::string> waiting_;
    std::set<std::string> undecided_;
    int64_t running_ = 0;
};

}  // namespace kumoi::compute
