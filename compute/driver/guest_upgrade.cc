#include "compute/driver/guest_upgrade.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/file.h"
#include "base/log.h"
#include "base/subprocess.h"
#include "compute/driver/live_note.h"
#include "compute/driver/live_process.h"
#include "migration/handover/agent.h"

namespace kumoi::compute {
namespace {

using hypervisor::ControlClient;
using hypervisor::NamedDescriptor;
using Kind = UpgradeReport::Kind;

constexpr int kPollStepMs = 10;
constexpr int64_t kHandoverMs = 30'000;
constexpr int64_t kSettleMs = 20'000;
constexpr int64_t kEndMs = 5'000;
constexpr size_t kSmallFileMax = 64 << 10;
constexpr size_t kLogTail = 600;
constexpr const char* kOlder = "older";
constexpr const char* kNewer = "newer";

void pass_time(int milliseconds) {
    ::poll(nullptr, 0, milliseconds);
}

bool is_ended(const std::string& phase) {
    return phase == "completed" || phase == "failed" || phase == "cancelled" ||
           phase == "superseded";
}

std::string error_of(const Json& status) {
    const Json* error = status.find("error");
    return error != nullptr && error->is_object() ? error->string_or("message") : "";
}

UpgradeReport stayed(std::string reason) {
    return {Kind::Stayed, -1, std::move(reason)};
}

Result<std::array<UniqueFd, 2>> socket_pair() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return Error::from_errno(errno, "making a pair of sockets");
    }
    return std::array<UniqueFd, 2>{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

}  // namespace

GuestUpgrade::GuestUpgrade(const GuestProcessOptions& options, InstanceFolder folder,
                           std::string uuid, const Clock& clock, Random& random,
                           std::string journals)
    : options_(options),
      folder_(std::move(folder)),
      uuid_(std::move(uuid)),
      clock_(clock),
      random_(random),
      journals_(std::move(journals)) {}

std::string GuestUpgrade::journal_path(const char* side) const {
    return fmt::format("{}/{}.{}", journals_, uuid_, side);
}

// --- Whether ---

// The installed program is another file than the one that runs: a package puts a new file in the
// old one's place.
Result<std::optional<bool>> GuestUpgrade::is_older() const {
    const GuestProcess process(options_, folder_, clock_);
    if (!TRY(process.is_alive())) {
        return std::optional<bool>();
    }
    const Json record = TRY(Json::parse(TRY(read_file(folder_.process(), kSmallFileMax))));
    const int64_t launcher = record.integer_or("launcher", record.integer_or("pid"));
    struct stat running {};
    struct stat installed {};
    if (::stat(fmt::format("/proc/{}/exe", launcher).c_str(), &running) != 0) {
        return Error::from_errno(errno, fmt::format("looking at process {}", launcher));
    }
    if (::stat(options_.vmm_path.c_str(), &installed) != 0) {
        return Error::from_errno(errno, "looking at " + options_.vmm_path);
    }
    return std::optional(running.st_dev != installed.st_dev || running.st_ino != installed.st_ino);
}

// --- Notes ---

Result<std::optional<GuestUpgrade::Note>> GuestUpgrade::read_note() const {
    if (!path_exists(note_path())) {
        return std::optional<Note>();
    }
    const Json json = TRY(Json::parse(TRY(read_file(note_path(), kSmallFileMax))));
    const auto id = Uuid::parse(json.string_or("id"));
    if (!id) {
        return Error::corrupt("{} names no upgrade", note_path());
    }
    Note note;
    note.id = *id;
    note.epoch = static_cast<uint64_t>(json.integer_or("epoch", 1));
    note.launcher = static_cast<pid_t>(json.integer_or("launcher"));
    note.start_ticks = static_cast<uint64_t>(json.integer_or("start_ticks"));
    return std::optional(note);
}

Result<void> GuestUpgrade::write_note(const Note& note) const {
    const Json json = Json::object({{"id", note.id.text()},
                                    {"epoch", note.epoch},
                                    {"launcher", note.launcher},
                                    {"start_ticks", note.start_ticks}});
    return write_file_atomic(note_path(), json.dump(), 0600);
}

void GuestUpgrade::forget() const {
    for (const std::string& path :
         {newer_socket(), journal_path(kOlder), journal_path(kNewer), note_path()}) {
        if (auto removed = remove_file(path); !removed.ok()) {
            log_warn("driver", "a file of an upgrade stays",
                     {{"path", path}, {"why", removed.error().text()}});
        }
    }
}

// --- The newer process ---

Result<GuestUpgrade::Note> GuestUpgrade::start_newer(
    const std::vector<std::string>& cgroup_procs) const {
    Note note;
    note.id = Uuid::generate(random_);
    note.epoch = read_epoch(folder_);
    TRY(remove_file(newer_socket()));
    TRY(write_note(note));  // a process that nobody knows of would be worse than one too many notes
    DaemonOptions daemon;
    daemon.log_path = folder_.vmm_log();
    daemon.directory = folder_.path();
    daemon.cgroup_procs = cgroup_procs;
    note.launcher = TRY(spawn_daemon(
        {options_.vmm_path, "--config", folder_.guest_config(), "--control", newer_socket(),
         "--upgrade-of", folder_.control_socket(), "--inherit-lock", folder_.lock()},
        daemon));
    const auto ticks = process_start_ticks(note.launcher);
    note.start_ticks = ticks.ok() ? *ticks : 0;
    TRY(write_note(note));
    return note;
}

bool GuestUpgrade::newer_lives(const Note& note) const {
    if (note.launcher <= 1) {
        return false;
    }
    int status = 0;
    ::waitpid(note.launcher, &status, WNOHANG);  // ours only until the daemon is restarted
    const auto ticks = process_start_ticks(note.launcher);
    return ticks.ok() && *ticks == note.start_ticks && process_alive(note.launcher);
}

Result<void> GuestUpgrade::wait_incoming(const Note& note) const {
    const int64_t deadline = clock_.monotonic_ns() + options_.start_timeout_ms * kNanosPerMilli;
    while (clock_.monotonic_ns() < deadline) {
        if (auto client = ControlClient::connect(newer_socket(), options_.control_timeout_ms);
            client.ok()) {
            const auto state = client->call("state", Json::object(), options_.control_timeout_ms);
            if (state.ok() && state->string_or("state") == "incoming") {
                return {};
            }
        }
        if (!newer_lives(note)) {
            return Error::unavailable("the newer kumoi-vmm ended while it started: {}", log_tail());
        }
        pass_time(kPollStepMs);
    }
    return Error::timeout("the newer kumoi-vmm was not ready within {} ms",
                          options_.start_timeout_ms);
}

void GuestUpgrade::end_newer(const Note& note) const {
    const int64_t deadline = clock_.monotonic_ns() + kEndMs * kNanosPerMilli;
    while (newer_lives(note) && clock_.monotonic_ns() < deadline) {
        ::kill(note.launcher, SIGKILL);  // the machine ends with it
        pass_time(kPollStepMs);
    }
}

std::string GuestUpgrade::log_tail() const {
    const auto text = read_file(folder_.vmm_log());
    if (!text.ok() || text->empty()) {
        return "it left no log";
    }
    return text->size() > kLogTail ? "..." + text->substr(text->size() - kLogTail) : *text;
}

// --- The upgrade ---

UpgradeReport GuestUpgrade::run(const std::vector<std::string>& cgroup_procs) {
    if (auto before = settle(); before && before->kind != Kind::Stayed) {
        return *before;
    }
    auto note = start_newer(cgroup_procs);
    if (!note.ok()) {
        forget();
        return stayed(note.error().text());
    }
    auto waited = wait_incoming(*note);
    auto report = waited.ok() ? hand_over(*note) : Result<UpgradeReport>(waited.error());
    if (report.ok()) {
        return *report;
    }
    auto settled = settle();
    if (settled && settled->kind == Kind::Stayed && settled->reason.empty()) {
        settled->reason = report.error().text();
    }
    return settled ? *settled : stayed(report.error().text());
}

// An error: it is not known here what became of it; settle() asks.
Result<UpgradeReport> GuestUpgrade::hand_over(const Note& note) const {
    auto older = TRY(ControlClient::connect(folder_.control_socket(), options_.control_timeout_ms));
    auto newer = TRY(ControlClient::connect(newer_socket(), options_.control_timeout_ms));
    const auto ends = TRY(socket_pair());
    const auto begin = [&](ControlClient& client, const char* method, const char* side,
                           int end) -> Result<void> {
        const std::string path = journal_path(side);
        TRY(make_directories(journals_, 0700));
        const UniqueFd journal = TRY(make_handover_journal(path));
        const NamedDescriptor passed[] = {{"connect:upgrade", end}, {path, journal.get()}};
        const Json params = Json::object(
            {{"id", note.id.text()},
             {"journal", path},
             {"epoch", note.epoch},
             {"connections", Json::array_of(std::vector<std::string>{"connect:upgrade"})}});
        TRY(client.call(method, params, options_.control_timeout_ms, passed));
        return {};
    };
    TRY(older.call("subscribe", Json::object(), options_.control_timeout_ms));
    TRY(begin(newer, "upgrade_incoming", kNewer, ends[1].get()));
    TRY(begin(older, "upgrade", kOlder, ends[0].get()));
    const int64_t deadline = clock_.monotonic_ns() + kHandoverMs * kNanosPerMilli;
    for (;;) {
        const int64_t left = (deadline - clock_.monotonic_ns()) / kNanosPerMilli;
        const auto event = TRY(older.wait_event(std::max<int64_t>(left, 0)));
        if (!event) {
            return Error::timeout("the upgrade was not decided within {} s", kHandoverMs / 1000);
        }
        const std::string phase = event->name == "migration" ? event->data.string_or("phase") : "";
        if (phase == "completed") {
            TRY(conclude(note));
            return UpgradeReport{
                Kind::Upgraded,
                static_cast<double>(event->data.integer_or("downtime_ns")) / kNanosPerMilli, ""};
        }
        if (is_ended(phase)) {
            return Error::unavailable("{}", error_of(event->data));
        }
        if (phase == "undecided") {
            return Error::unavailable("the two processes lost each other");
        }
    }
}

// The older process ends by itself. Its launcher may remove its socket file until then.
Result<void> GuestUpgrade::conclude(const Note& note) const {
    const GuestProcess older(options_, folder_, clock_);
    const Json before = [&] {
        const auto text = read_file(folder_.process(), kSmallFileMax);
        auto json = text.ok() ? Json::parse(*text) : Result<Json>(text.error());
        return json.ok() ? *json : Json::object();
    }();
    const auto launcher = static_cast<pid_t>(before.integer_or("launcher"));
    if (launcher > 1 && launcher != note.launcher) {
        const auto ticks = process_start_ticks(launcher);
        const int64_t deadline = clock_.monotonic_ns() + kEndMs * kNanosPerMilli;
        int status = 0;
        while (::waitpid(launcher, &status, WNOHANG) == 0 || process_alive(launcher)) {
            const auto now = process_start_ticks(launcher);
            if (!now.ok() || !ticks.ok() || *now != *ticks) {
                break;  // somebody else's number by now
            }
            if (clock_.monotonic_ns() > deadline) {
                ::kill(launcher, SIGKILL);
            }
            pass_time(1);
        }
    }
    if (path_exists(newer_socket()) &&
        ::rename(newer_socket().c_str(), folder_.control_socket().c_str()) != 0) {
        return Error::from_errno(errno, "renaming " + newer_socket());
    }
    const auto hello = older.call("hello");  // the newer one, by now
    const auto inner = static_cast<pid_t>(hello.ok() ? hello->integer_or("pid") : note.launcher);
    const auto inner_ticks = process_start_ticks(inner);
    TRY(write_file_atomic(folder_.process(),
                          Json::object({{"pid", inner},
                                        {"start_ticks", inner_ticks.ok() ? *inner_ticks : 0},
                                        {"launcher", note.launcher},
                                        {"host", options_.host}})
                              .dump(),
                          0600));
    TRY(write_epoch(folder_, note.epoch + 1));
    forget();
    return {};
}

// --- Whose it is ---

std::optional<GuestUpgrade::Status> GuestUpgrade::status_of(const std::string& socket,
                                                            const Note& note) const {
    auto client = ControlClient::connect(socket, options_.control_timeout_ms);
    if (!client.ok()) {
        return std::nullopt;
    }
    const auto json = client->call("migrate_status", Json::object(), options_.control_timeout_ms);
    if (!json.ok()) {
        return std::nullopt;
    }
    if (json->string_or("id") != note.id.text()) {
        return Status{"none", "", "", 0};
    }
    return Status{json->string_or("phase"), json->string_or("handover"), error_of(*json),
                  static_cast<uint64_t>(json->integer_or("epoch", 0))};
}

Result<std::optional<migration::HandoverJournal>> GuestUpgrade::dead_journal(
    const char* side) const {
    return migration::HandoverJournal::open_dead(journal_path(side), clock_);
}

Result<void> GuestUpgrade::tell(const std::string& socket, const Note& note,
                                const char* view) const {
    auto client = TRY(ControlClient::connect(socket, options_.control_timeout_ms));
    TRY(client.call("migrate_verdict", Json::object({{"id", note.id.text()}, {"view", view}}),
                    options_.control_timeout_ms));
    return {};
}

void GuestUpgrade::reconnect(const Note& note) const {
    const auto ends = socket_pair();
    if (!ends.ok()) {
        return;
    }
    const auto connect = [&](const std::string& socket, int end) -> Result<void> {
        auto client = TRY(ControlClient::connect(socket, options_.control_timeout_ms));
        const NamedDescriptor passed[] = {{"connect:upgrade-again", end}};
        TRY(client.call("migrate_connect",
                        Json::object({{"id", note.id.text()},
                                      {"connections", Json::array_of(std::vector<std::string>{
                                                          "connect:upgrade-again"})}}),
                        options_.control_timeout_ms, passed));
        return {};
    };
    for (const auto& done : {connect(newer_socket(), (*ends)[1].get()),
                             connect(folder_.control_socket(), (*ends)[0].get())}) {
        if (!done.ok()) {
            log_debug("driver", "the two processes of an upgrade are not connected again",
                      {{"server", uuid_}, {"why", done.error().text()}});
        }
    }
}

std::optional<UpgradeReport> GuestUpgrade::settle() {
    const auto note = read_note();
    if (!note.ok() || !*note) {
        return note.ok() ? std::nullopt : std::optional(stayed(note.error().text()));
    }
    std::string error;
    const int64_t deadline = clock_.monotonic_ns() + kSettleMs * kNanosPerMilli;
    for (;;) {
        if (auto report = settle_turn(**note, error)) {
            log_info(
                "driver", "a live upgrade is settled",
                {{"server", uuid_}, {"end", to_string(report->kind)}, {"reason", report->reason}});
            return report;
        }
        if (clock_.monotonic_ns() > deadline) {
            return stayed("the two processes do not agree yet; the next upgrade asks again");
        }
        pass_time(kPollStepMs);
    }
}

// One turn of asking both. Nothing: not decided yet.
std::optional<UpgradeReport> GuestUpgrade::settle_turn(const Note& note, std::string& error) {
    const auto newer = newer_lives(note) ? status_of(newer_socket(), note) : std::nullopt;
    const auto older = status_of(folder_.control_socket(), note);
    const bool renamed = older && older->handover == "Owner";
    if (renamed || (newer && newer->handover == "Owner")) {
        const auto done = conclude(note);
        return UpgradeReport{Kind::Upgraded, -1, done.ok() ? "" : done.error().text()};
    }
    if (older) {
        return settle_older(note, *older, newer, error);
    }
    if (newer) {
        settle_newer(note, *newer);
        return std::nullopt;
    }
    const auto alive = GuestProcess(options_, folder_, clock_).is_alive();
    if (alive.ok() && !*alive) {
        forget();
        return UpgradeReport{Kind::Lost, -1, "both processes have ended"};
    }
    return std::nullopt;  // one of them is just ending, or starting
}

std::optional<UpgradeReport> GuestUpgrade::settle_older(const Note& note, const Status& older,
                                                        const std::optional<Status>& newer,
                                                        std::string& error) {
    error = older.error.empty() ? error : older.error;
    const bool here = older.phase == "none" || is_ended(older.phase);
    if (here && older.handover != "Released" && older.handover != "Superseded") {
        end_newer(note);
        if (older.epoch > note.epoch) {  // it has taken its disks back
            (void)write_epoch(folder_, older.epoch);
        }
        forget();
        return stayed(error);
    }
    if (newer) {
        if (older.phase == "undecided") {
            reconnect(note);
        }
        return std::nullopt;
    }
    if (newer_lives(note)) {
        return std::nullopt;
    }
    auto journal = dead_journal(kNewer);
    if (!journal.ok() || !*journal) {
        return std::nullopt;
    }
    const auto settlement = migration::settle_destination((*journal)->mark());
    if (settlement.mark && (*journal)->mark() != *settlement.mark &&
        !(*journal)->record(*settlement.mark).ok()) {
        return std::nullopt;
    }
    (void)tell(folder_.control_socket(), note, settlement.owned ? "owner" : "declined");
    return std::nullopt;
}

// The older process is dead.
void GuestUpgrade::settle_newer(const Note& note, const Status& newer) {
    auto journal = dead_journal(kOlder);
    if (!journal.ok() && journal.error().code == ErrorCode::NotFound) {  // it never began
        return end_newer(note);
    }
    if (!journal.ok() || !*journal) {
        return;
    }
    const bool ready = newer.handover == "Ready" || newer.handover == "Parked";
    const auto settlement = migration::settle_source(
        (*journal)->mark(),
        ready ? migration::DestinationView::Ready
              : (newer.handover == "Declined" ? migration::DestinationView::Declined
                                              : migration::DestinationView::Loading));
    if (settlement.mark && !(*journal)->record(*settlement.mark).ok()) {
        return;
    }
    using Outcome = migration::SourceSettlement::Outcome;
    if (settlement.outcome == Outcome::Commit) {
        (void)tell(newer_socket(), note, "committed");
    } else if (settlement.outcome == Outcome::CrashedHere) {
        end_newer(note);
    }
}

std::vector<std::string> noted_cgroup_procs(const InstanceFolder& folder) {
    std::vector<std::string> files;
    const auto text = read_file(folder.cgroups(), kSmallFileMax);
    const auto list = text.ok() ? Json::parse(*text) : Result<Json>(text.error());
    if (list.ok() && list->is_array()) {
        for (const Json& item : list->as_array()) {
            if (item.is_string()) {
                files.push_back(item.as_string() + "/cgroup.procs");
            }
        }
    }
    return files;
}

}  // namespace kumoi::compute
