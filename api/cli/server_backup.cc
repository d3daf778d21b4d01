#include "api/cli/server_backup.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>

#include "api/cli/find.h"
#include "api/cli/local_machines.h"
#include "api/cli/programs.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/file_lock.h"
#include "base/random.h"
#include "base/subprocess.h"
#include "hypervisor/control/control_client.h"

namespace kumoi::cli {
namespace {

constexpr int64_t kFormat = 1;
constexpr int64_t kConnectMs = 1000;
constexpr int64_t kAnswerMs = 30'000;  // a job begins with the disk standing still
constexpr int kStepMs = 200;           // between two looks at the job
constexpr int64_t kConvertTimeoutMs = 24LL * 3600 * 1000;
constexpr uint64_t kMib = 1u << 20;

const std::vector<Column> kColumns{
    {"ID", "id", true}, {"MODE", "mode"},     {"PARENT", "parent", true},
    {"STATE", "state"}, {"MIB", "mib", true}, {"AT", "at"},
    {"FILE", "file"}};

std::string manifest_path(const std::string& folder) {
    return folder + "/backup.json";
}

Result<UniqueFd> lock_file(const std::string& path, int flags, const std::string& in_use) {
    auto file = TRY(try_lock_file(path, flags));
    if (!file) {
        return Error::conflict("{}", in_use);
    }
    return std::move(*file);
}

Result<UniqueFd> lock_folder(const std::string& folder) {
    return lock_file(folder, O_RDONLY | O_DIRECTORY, folder + " is in use by another backup");
}

Result<Json> read_manifest(const std::string& folder) {
    Json manifest = TRY_CONTEXT(Json::parse(TRY(read_file(manifest_path(folder)))), "{}",
                                manifest_path(folder));
    if (manifest.integer_or("format") != kFormat || manifest.find("backups") == nullptr ||
        !manifest.find("backups")->is_array()) {
        return Error::unsupported("{} is not of format {}", manifest_path(folder), kFormat);
    }
    return manifest;
}

Result<void> write_manifest(const std::string& folder, const Json& manifest) {
    TRY(write_file_atomic(manifest_path(folder), manifest.dump_pretty() + "\n", 0600));
    return sync_directory(folder);
}

// A folder holds the backups of one server.
Result<Json> manifest_for(const std::string& folder, const Json& machine) {
    if (path_exists(manifest_path(folder))) {
        Json manifest = TRY(read_manifest(folder));
        if (manifest.string_or("server") != machine.string_or("id")) {
            return Error::conflict("{} has the backups of server {}", folder,
                                   manifest.string_or("server"))
                .with_hint("Choose a folder of its own for each server.");
        }
        return manifest;
    }
    SystemRandom random;
    return Json::object({{"format", kFormat},
                         {"server", machine.string_or("id")},
                         {"name", machine.string_or("name")},
                         {"bitmap", fmt::format("kumoi-backup-{:08x}", random.below(1ull << 32))},
                         {"backups", Json::array()}});
}

Result<std::string> disk_format(const std::string& server_folder) {
    const std::string path = server_folder + "/disk.info";
    if (!path_exists(path)) {
        return std::string("raw");
    }
    return TRY(Json::parse(TRY(read_file(path)))).string_or("disk", "raw");
}

Result<void> sync_file(const std::string& path) {
    const UniqueFd file = TRY(open_file(path, O_RDONLY));
    return ::fdatasync(file.get()) == 0 ? Result<void>() : Error::from_errno(errno, path);
}

std::string file_name(int64_t id) {
    return fmt::format("{:04}.qcow2", id);
}

// By its number: whatever else a manifest that somebody changed says, only backups are removed.
std::string file_in(const std::string& folder, const Json& entry) {
    return (std::filesystem::absolute(folder) / file_name(entry.integer_or("id")))
        .lexically_normal();
}

bool is_cut_short(const Json& entry) {
    return entry.string_or("state") == "begun";
}

// The folder is locked: who had begun these has ended. Their entries stay until a backup is whole.
Result<void> remove_cut_short_files(const std::string& folder, const Json& backups) {
    for (const Json& entry : backups.as_array()) {
        if (is_cut_short(entry)) {
            TRY(remove_file(file_in(folder, entry)));
        }
    }
    return {};
}

// The job of a command that was killed goes on in kumoi-vmm: nobody waits for it. Others' stay.
Result<void> end_orphan(hypervisor::ControlClient& client, const std::string& folder,
                        const Json& backups) {
    const Json disk = Json::object({{"disk", "root"}});
    const auto orphaned = [&](const Json& job) {
        const std::string target = job.string_or("target");
        return job.string_or("state") == "running" &&
               std::any_of(backups.as_array().begin(), backups.as_array().end() - 1,
                           [&](const Json& entry) {
                               return is_cut_short(entry) && file_in(folder, entry) == target;
                           });
    };
    if (orphaned(TRY(client.call("disk_job", disk, kAnswerMs)))) {
        (void)client.call("disk_job_cancel", disk, kAnswerMs);  // it may just have ended
    }
    for (int64_t waited_ms = 0; orphaned(TRY(client.call("disk_job", disk, kAnswerMs)));
         waited_ms += kStepMs) {
        if (waited_ms >= kAnswerMs) {
            return Error::timeout("the backup of a killed command has not ended within {} s",
                                  kAnswerMs / 1000);
        }
        ::poll(nullptr, 0, kStepMs);
    }
    return {};
}

// The guest runs on while its kumoi-vmm copies the disk. `unsure`: whether the outcome is unknown.
Result<void> copy_running(const Json& machine, const Json& manifest, const Json& entry,
                          const std::string& target, bool& unsure) {
    auto client = TRY(hypervisor::ControlClient::connect(
        machine.string_or("path") + "/control.sock", kConnectMs));
    TRY(end_orphan(client, std::filesystem::path(target).parent_path(), *manifest.find("backups")));
    const UniqueFd file = TRY(open_file(target, O_RDWR | O_CREAT | O_EXCL, 0600));
    Json params =
        Json::object({{"disk", "root"}, {"target", target}, {"mode", entry.string_or("mode")}});
    if (entry.bool_or("tracked")) {
        params.set("bitmap", manifest.string_or("bitmap"));
    }
    if (entry.integer_or("parent") != 0) {
        params.set("backing", file_name(entry.integer_or("parent")));
    }
    const std::vector<hypervisor::NamedDescriptor> passed = {{target, file.get()}};
    unsure = true;
    const auto begun = client.call("disk_backup", params, kAnswerMs, passed);
    if (!begun.ok()) {
        unsure = !client.connected();
        return begun.error();
    }
    for (;;) {
        const Json job = TRY(client.call("disk_job", Json::object({{"disk", "root"}}), kAnswerMs));
        if (job.string_or("target") != target) {
            return Error::unavailable("the backup was replaced by another job");
        }
        if (job.string_or("state") != "running") {
            unsure = false;
            return job.string_or("state") == "done"
                       ? Result<void>()
                       : Error::unavailable("{}", job.string_or("error"));
        }
        ::poll(nullptr, 0, kStepMs);
    }
}

// Nobody starts the server meanwhile. The bitmap records from here on.
Result<void> copy_stopped(const Json& machine, const Json& manifest, const Json& entry,
                          const std::string& target, bool& unsure) {
    const std::string path = machine.string_or("path");
    const UniqueFd lock =
        TRY(lock_file(path + "/lock", O_RDWR | O_CREAT, "the server has been started meanwhile"));
    const std::string img = TRY(find_kumoi_program("kumoi-img"));
    const std::string format = TRY(disk_format(path));
    CommandOptions command;
    command.timeout_ms = kConvertTimeoutMs;
    TRY(run_checked({img, "convert", "-f", format, "-O", "qcow2", path + "/disk", target},
                    command));
    if (entry.bool_or("tracked")) {
        unsure = true;
        const std::string bitmap = manifest.string_or("bitmap");
        const auto removed = run_command({img, "bitmap", "remove", path + "/disk", bitmap});
        TRY(removed);
        TRY(run_checked({img, "bitmap", "add", path + "/disk", bitmap}));
        unsure = false;
    }
    return {};
}

// Of a backup, with all the backups it builds on.
Result<void> convert(const std::string& source, const std::string& format, const std::string& to) {
    CommandOptions command;
    command.timeout_ms = kConvertTimeoutMs;
    const std::string img = TRY(find_kumoi_program("kumoi-img"));
    TRY(run_checked({img, "convert", "-f", "qcow2", "-O", format, source, to}, command));
    return {};
}

Result<void> say_done(Session& session, const Json& entry, const std::string& folder) {
    const std::string file = folder + "/" + entry.string_or("file");
    session.out.say(
        fmt::format(" {}  {}, {} MiB", file, entry.string_or("mode"), TRY(file_size(file)) / kMib));
    return {};
}

Json new_entry(const Json& backups, bool incremental, bool tracked, int64_t wall_ns) {
    const int64_t last = backups.size() == 0 ? 0 : backups.as_array().back().integer_or("id");
    return Json::object({{"id", last + 1},
                         {"file", file_name(last + 1)},
                         {"mode", incremental ? "incremental" : "full"},
                         {"parent", incremental ? last : 0},
                         {"tracked", tracked},
                         {"at", iso8601(wall_ns)},
                         {"state", "begun"}});
}

Result<Json> find_entry(const Json& manifest, int64_t id) {
    std::optional<Json> found;
    for (const Json& entry : manifest.find("backups")->as_array()) {
        if (entry.string_or("state") == "whole" && (id == 0 || entry.integer_or("id") == id)) {
            found = entry;
        }
    }
    if (!found) {
        return id == 0 ? Error::not_found("there is no whole backup")
                       : Error::not_found("there is no whole backup {}", id);
    }
    return *found;
}

}  // namespace

Result<void> check_incremental(const Json& manifest) {
    const Json::Array& backups = manifest.find("backups")->as_array();
    std::string why;
    if (backups.empty()) {
        why = "there is no backup before it";
    } else if (backups.back().string_or("state") != "whole") {
        why = fmt::format("backup {} was cut short", backups.back().integer_or("id"));
    } else if (!backups.back().bool_or("tracked")) {
        why = "the disk is raw: nothing records what changes";
    }
    return why.empty() ? Result<void>()
                       : Error::conflict("No incremental backup: {}", why)
                             .with_hint("Make a full one, without --incremental.");
}

Result<void> backup_server(Session& session, const BackupOptions& options) {
    const Json machine =
        TRY(find_one("server", TRY(local_machines(session.instances_path())), options.server));
    const std::string state = machine.string_or("state");
    if (state == "unknown") {
        return Error::unavailable("Server {} does not answer: {}", machine.string_or("name"),
                                  machine.string_or("problem"));
    }
    const bool running = state != "stopped";
    TRY(make_directories(options.folder, 0700));
    const UniqueFd lock = TRY(lock_folder(options.folder));
    Json manifest = TRY(manifest_for(options.folder, machine));
    if (options.incremental) {
        TRY(check_incremental(manifest));
    }
    if (options.incremental && !running) {
        return Error::conflict("Server {} is stopped: its next backup is a full one",
                               machine.string_or("name"))
            .with_hint("Start it, or leave --incremental away.");
    }
    Json& backups = *manifest.find("backups");
    const bool tracked = TRY(disk_format(machine.string_or("path"))) == "qcow2";
    Json entry = new_entry(backups, options.incremental, tracked, session.clock().wall_ns());
    TRY(remove_cut_short_files(options.folder, backups));
    backups.push_back(entry);
    TRY(write_manifest(options.folder, manifest));
    const std::string target = file_in(options.folder, entry);
    bool unsure = false;
    const auto copied = running ? copy_running(machine, manifest, entry, target, unsure)
                                : copy_stopped(machine, manifest, entry, target, unsure);
    if (!copied.ok()) {
        (void)remove_file(target);
        if (!unsure) {  // the bitmap is as it was, and so is the chain
            backups.as_array().pop_back();
            TRY(write_manifest(options.folder, manifest));
        }
        return Error(copied.error()).with_context("backing up " + machine.string_or("name"));
    }
    TRY(sync_file(target));
    entry.set("state", "whole");
    backups.as_array().back() = entry;
    std::erase_if(backups.as_array(), is_cut_short);  // what was lost with them is in this one
    TRY(write_manifest(options.folder, manifest));
    return say_done(session, entry, options.folder);
}

Result<void> list_backups(Session& session, const std::string& folder) {
    const Json manifest = TRY(read_manifest(folder));
    Json::Array rows = manifest.find("backups")->as_array();
    for (Json& row : rows) {
        const auto size = file_size(folder + "/" + row.string_or("file"));
        row.set("mib", size.ok() ? Json(*size / kMib) : Json());
    }
    return session.out.list(kColumns, rows);
}

namespace {

// Its guest is off, and stays so meanwhile.
Result<void> replace_disk(const std::string& path, const std::string& source) {
    const UniqueFd stopped =
        TRY(lock_file(path + "/lock", O_RDWR | O_CREAT, "the server runs; stop it first"));
    const std::string disk = path + "/disk";
    const std::string work = disk + ".restoring";
    TRY(remove_file(work));
    const std::string format = TRY(disk_format(path));
    auto replaced = [&]() -> Result<void> {
        TRY(convert(source, format, work));
        TRY(sync_file(work));
        return ::rename(work.c_str(), disk.c_str()) == 0 ? Result<void>()
                                                         : Error::from_errno(errno, disk);
    }();
    if (!replaced.ok()) {
        (void)remove_file(work);
        return replaced;
    }
    TRY(sync_directory(path));
    TRY(remove_file(disk + ".base"));     // the disk stands alone now
    return remove_file(path + "/state");  // memory of another disk
}

}  // namespace

Result<void> restore_backup(Session& session, const RestoreOptions& options) {
    if (options.output.empty() == options.server.empty()) {
        return Error::invalid("Where to? Say --output FILE or --server NAME.");
    }
    const UniqueFd lock = TRY(lock_folder(options.folder));
    const Json entry = TRY(find_entry(TRY(read_manifest(options.folder)), options.id));
    const std::string source = options.folder + "/" + entry.string_or("file");
    if (options.server.empty()) {
        if (path_exists(options.output)) {
            return Error::conflict("{} exists", options.output);
        }
        TRY(convert(source, options.format, options.output));
        session.out.say(fmt::format(" {}  backup {}", options.output, entry.integer_or("id")));
        return {};
    }
    const Json machine =
        TRY(find_one("server", TRY(local_machines(session.instances_path())), options.server));
    TRY(replace_disk(machine.string_or("path"), source));
    session.out.say(fmt::format(" {}  has the disk of backup {}", machine.string_or("name"),
                                entry.integer_or("id")));
    return {};
}

}  // namespace kumoi::cli
