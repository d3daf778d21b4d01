#include "compute/manager/live_migrations.h"

#include <algorithm>

#include "base/log.h"

namespace kumoi::compute {

Result<void> LiveMigrations::enqueue(const std::string& uuid, int64_t migration_id,
                                     std::function<Result<void>()> start) {
    {
        const std::lock_guard lock(mutex_);
        const auto [entry, is_new] = entries_.try_emplace(uuid);
        if (!is_new) {
            return Error::conflict("Server {} is being migrated already", uuid)
                .with_fault("InvalidMigrationState");
        }
        entry->second.migration_id = migration_id;
        entry->second.start = std::move(start);
        waiting_.push_back(uuid);
    }
    start_next();
    return {};
}

void LiveMigrations::start_next() {
    for (;;) {
        std::string uuid;
        std::function<Result<void>()> start;
        {
            const std::lock_guard lock(mutex_);
            if (waiting_.empty() || (running_max_ > 0 && running_ >= running_max_)) {
                return;
            }
            uuid = std::move(waiting_.front());
            waiting_.pop_front();
            Entry& entry = entries_[uuid];
            entry.has_turn = true;
            start = std::move(entry.start);
            ++running_;
        }
        const auto started = start();
        if (!started.ok()) {
            log_warn("compute", "a live migration was not started",
                     {{"server", uuid}, {"why", started.error().text()}});
            finished(uuid);
        }
    }
}

void LiveMigrations::adopt(const std::string& uuid, int64_t migration_id) {
    const std::lock_guard lock(mutex_);
    Entry& entry = entries_[uuid];
    running_ += entry.has_turn ? 0 : 1;
    entry.migration_id = migration_id;
    entry.stage = Stage::Running;
    entry.has_turn = true;
}

void LiveMigrations::finished(const std::string& uuid) {
    {
        const std::lock_guard lock(mutex_);
        const auto entry = entries_.find(uuid);
        if (entry == entries_.end()) {
            return;
        }
        running_ -= entry->second.has_turn ? 1 : 0;
        entries_.erase(entry);
    }
    start_next();
}

bool LiveMigrations::advance(const std::string& uuid, Stage stage) {
    const std::lock_guard lock(mutex_);
    const auto entry = entries_.find(uuid);
    if (entry == entries_.end()) {
        return true;  // gone on with after a restart
    }
    if (entry->second.aborted) {
        return false;
    }
    entry->second.stage = stage;
    return true;
}

Result<LiveMigrations::Stage> LiveMigrations::abort(const std::string& uuid, int64_t migration_id) {
    const std::lock_guard lock(mutex_);
    const auto entry = entries_.find(uuid);
    if (entry == entries_.end() || entry->second.migration_id != migration_id) {
        return Error::conflict("Migration {} of server {} does not run on this host", migration_id,
                               uuid)
            .with_fault("InvalidMigrationState");
    }
    if (!entry->second.has_turn) {
        std::erase(waiting_, uuid);
        entries_.erase(entry);
        return Stage::Queued;
    }
    const Stage stage = entry->second.stage;
    if (stage != Stage::Running) {
        entry->second.aborted = true;
        return Stage::Preparing;
    }
    return stage;
}

std::optional<int64_t> LiveMigrations::migration_of(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto entry = entries_.find(uuid);
    return entry == entries_.end() ? std::nullopt : std::optional(entry->second.migration_id);
}

void LiveMigrations::set_undecided(const std::string& uuid, bool undecided) {
    const std::lock_guard lock(mutex_);
    if (undecided) {
        undecided_.insert(uuid);
    } else {
        undecided_.erase(uuid);
    }
}

bool LiveMigrations::is_undecided(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    return undecided_.contains(uuid);
}

void LiveMigrations::set_progress(const std::string& uuid, const LiveMigrationProgress& progress) {
    const std::lock_guard lock(mutex_);
    const auto entry = entries_.find(uuid);
    if (entry != entries_.end()) {
        entry->second.progress = progress;
    }
}

std::optional<LiveMigrationProgress> LiveMigrations::progress(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto entry = entries_.find(uuid);
    return entry == entries_.end() ? std::nullopt : std::optional(entry->second.progress);
}

}  // namespace kumoi::compute
