#include "compute/driver/live_process.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"

namespace kumoi::compute {
namespace {

using migration::DestinationView;

constexpr int64_t kEndGraceMs = 2'000;  // of a process that does not answer any more

// Names of descriptors, in order.
std::vector<hypervisor::NamedDescriptor> name_sockets(const LiveNote& note,
                                                      const std::vector<UniqueFd>& sockets) {
    std::vector<hypervisor::NamedDescriptor> named;
    for (const UniqueFd& socket : sockets) {
        named.push_back(
            {fmt::format("connect:migration-{}-{}", note.round, named.size()), socket.get()});
    }
    return named;
}

Json names_of(const std::vector<hypervisor::NamedDescriptor>& named) {
    Json names = Json::array();
    for (const hypervisor::NamedDescriptor& one : named) {
        names.push_back(one.name);
    }
    return names;
}

Json engine_options(const LiveMigrationOptions& options, const std::string& compress) {
    return Json::object({{"downtime_ms", options.downtime_ms},
                         {"bandwidth_bytes_s", options.bandwidth_bytes_s},
                         {"auto_converge", options.auto_converge},
                         {"post_copy", options.post_copy ? "automatic" : "never"},
                         {"compress", compress}});
}

}  // namespace

Result<UniqueFd> make_handover_journal(const std::string& path) {
    TRY(remove_file(path));
    UniqueFd file = TRY(open_file(path, O_RDWR | O_CREAT | O_EXCL, 0600));
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        return Error::from_errno(errno, "locking " + path);
    }
    return file;
}

LiveStatus LiveStatus::parse(const Json& json) {
    LiveStatus status;
    status.phase = json.string_or("phase", "none");
    status.handover = json.string_or("handover");
    status.epoch = static_cast<uint64_t>(json.integer_or("epoch", 0));
    status.connected = json.bool_or("connected", true);
    const Json* error = json.find("error");
    if (error != nullptr) {
        status.error = error->is_object() ? error->string_or("message")
                                          : (error->is_string() ? error->as_string() : "");
    }
    LiveMigrationProgress& progress = status.progress;
    progress.phase = status.phase;
    if (const Json* memory = json.find("memory"); memory != nullptr && memory->is_object()) {
        progress.memory_total = memory->integer_or("total", 0);
        progress.memory_processed = memory->integer_or("processed", 0);
        progress.memory_remaining = memory->integer_or("remaining", 0);
    }
    if (const Json* disks = json.find("disks"); disks != nullptr && disks->is_object()) {
        progress.disk_total = disks->integer_or("total", 0);
        progress.disk_processed = disks->integer_or("processed", 0);
        progress.disk_remaining = disks->integer_or("remaining", 0);
    }
    progress.dirty_rate_bytes_s = json.integer_or("dirty_rate_bytes_s", -1);
    progress.bandwidth_bytes_s = json.integer_or("bandwidth_bytes_s", -1);
    progress.expected_downtime_ms = json.integer_or("expected_downtime_ms", -1);
    progress.remaining_ms = json.integer_or("remaining_ms", -1);
    const int64_t downtime_ns = json.integer_or("downtime_ns", -1);
    progress.downtime_ms =
        json.integer_or("downtime_ms", downtime_ns > 0 ? downtime_ns / kNanosPerMilli : -1);
    progress.throttle_percent = json.integer_or("throttle_percent", 0);
    progress.verdict = json.string_or("verdict");
    return status;
}

bool LiveStatus::ended() const {
    return phase == "completed" || phase == "failed" || phase == "cancelled" ||
           phase == "superseded";
}

bool LiveStatus::waits() const {
    return phase == "undecided" || (phase == "post_copy" && !connected);
}

bool LiveStatus::switched() const {
    return handover == "Frozen" || handover == "Undecided" || handover == "Committed" ||
           handover == "Retaking" || handover == "Released" || phase == "post_copy";
}

Result<void> LiveProcess::begin(const LiveNote& note, const std::vector<UniqueFd>& sockets,
                                const LiveMigrationOptions& options,
                                const std::string& compress) const {
    const std::string path = folder_.journal(note);
    const UniqueFd journal = TRY(make_handover_journal(path));
    auto named = name_sockets(note, sockets);
    Json params = Json::object({{"id", note.id.text()},
                                {"journal", path},
                                {"epoch", note.epoch},
                                {"copied", Json::array_of(note.copied)},
                                {"connections", names_of(named)}});
    named.push_back({path, journal.get()});
    const bool source = note.role == LiveNote::Role::Source;
    if (source) {
        params.set("options", engine_options(options, compress));
    }
    TRY(process_.call(source ? "migrate" : "migrate_incoming", params, named));
    return {};
}

Result<void> LiveProcess::connect(const LiveNote& note,
                                  const std::vector<UniqueFd>& sockets) const {
    const auto named = name_sockets(note, sockets);
    TRY(process_.call("migrate_connect",
                      Json::object({{"id", note.id.text()}, {"connections", names_of(named)}}),
                      named));
    return {};
}

Result<void> LiveProcess::force() const {
    const auto force = [&](const char* how) {
        return process_.call("migrate_force", Json::object({{"how", how}}));
    };
    if (force("post_copy").ok()) {
        return {};
    }
    TRY(force("pause"));
    return {};
}

Result<LiveStatus> LiveProcess::status() const {
    const Json json = TRY(process_.call("migrate_status"));
    return LiveStatus::parse(json);
}

Result<std::optional<LiveStatus>> LiveProcess::last_word() const {
    if (!TRY(is_alive())) {
        return std::optional<LiveStatus>();
    }
    auto said = status();
    if (said.ok()) {
        return std::optional(std::move(said).value());
    }
    if (TRY(process_.wait_end(kEndGraceMs))) {
        return std::optional<LiveStatus>();
    }
    return said.error();
}

Result<void> LiveProcess::verdict(const LiveNote& note, const std::string& view,
                                  uint64_t lease_epoch) const {
    Json params = Json::object({{"id", note.id.text()}, {"view", view}});
    if (lease_epoch != 0) {
        params.set("lease_epoch", lease_epoch);
    }
    TRY(process_.call("migrate_verdict", params));
    return {};
}

Result<std::optional<migration::HandoverJournal>> LiveProcess::journal(const LiveNote& note) const {
    auto journal = TRY(migration::HandoverJournal::open_dead(folder_.journal(note), clock_));
    if (journal && journal->terms().id != note.id.bytes()) {
        return Error::corrupt("{} is of another migration", folder_.journal(note));
    }
    return journal;
}

std::string_view to_word(DestinationView view) {
    switch (view) {
        case DestinationView::Unreachable: return "unreachable";
        case DestinationView::Loading: return "loading";
        case DestinationView::Ready: return "ready";
        case DestinationView::Owner: return "owner";
        case DestinationView::Declined: return "declined";
    }
    return "unreachable";
}

DestinationView parse_view(const std::string& word) {
    for (const DestinationView view : {DestinationView::Loading, DestinationView::Ready,
                                       DestinationView::Owner, DestinationView::Declined}) {
        if (word == to_word(view)) {
            return view;
        }
    }
    return DestinationView::Unreachable;
}

DestinationView view_of(const LiveStatus& status) {
    if (status.handover == "Owner") {
        return DestinationView::Owner;
    }
    if (status.handover == "Declined") {
        return DestinationView::Declined;
    }
    const bool has_all = status.handover == "Ready" || status.handover == "Parked";
    return has_all ? DestinationView::Ready : DestinationView::Loading;
}

}  // namespace kumoi::compute
