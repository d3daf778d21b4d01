#include "compute/driver/live_disks.h"

#include <sys/stat.h>

#include <algorithm>

#include "base/file.h"
#include "base/json.h"
#include "base/subprocess.h"
#include "compute/driver/disk_file.h"
#include "compute/driver/disk_leases.h"
#include "migration/transfer/manifest.h"

namespace kumoi::compute {
namespace {

constexpr std::string_view kFormat = "kumoi-live-disks-1";
constexpr size_t kConsoleLogMax = 64u << 20;  // a larger one stays behind
constexpr uint64_t kStatBlock = 512;
constexpr uint64_t kDiskSizeMax = uint64_t{1} << 50;

uint64_t allocated_bytes(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 ? static_cast<uint64_t>(status.st_blocks) * kStatBlock
                                              : 0;
}

std::string name_of(const std::string& path) {
    return path.substr(path.rfind('/') + 1);
}

Result<LiveDisk> raw_disk(const std::string& id, const std::string& path) {
    const uint64_t size = TRY(file_size(path));
    return LiveDisk{id, name_of(path), "raw", "", "", size, allocated_bytes(path)};
}

// As the overlay itself says.
Result<std::string> backing_format_of(const RootDisk& disk, const RootDiskOptions& options) {
    const std::string text =
        TRY(run_checked({options.img_path, "info", "-f", disk.format, "--json", disk.path}));
    const Json info = TRY(Json::parse(text));
    return info.string_or("backing_format", "raw");
}

// Of a process, of the daemon, or of a migration: of no use to another host.
bool stays_here(const std::string& name) {
    constexpr std::string_view kNames[] = {"lock",         "process.json",    "pid",
                                           "cgroups.json", "arrived.json",    "vmm.log",
                                           "guest.json",   "arrival.json",    "departure.json",
                                           "volumes.json", "arrival.journal", "departure.journal",
                                           "config.json",  "console.log",     "console.log.1",
                                           "epoch"};
    return std::ranges::find(kNames, name) != std::end(kNames) || name[0] == '.' ||
           is_disk_lease(name);
}

}  // namespace

std::string LiveDisks::text() const {
    Json list = Json::array();
    for (const LiveDisk& disk : disks) {
        list.push_back(Json::object({{"id", disk.id},
                                     {"file", disk.file},
                                     {"format", disk.format},
                                     {"backing", disk.backing},
                                     {"backing_format", disk.backing_format},
                                     {"size", disk.size},
                                     {"allocated", disk.allocated}}));
    }
    return Json::object({{"format", kFormat}, {"disks", std::move(list)}, {"files", files}}).dump();
}

Result<LiveDisks> LiveDisks::parse(const std::string& text) {
    const Json json = TRY(Json::parse(text));
    const Json* list = json.find("disks");
    if (json.string_or("format") != kFormat || list == nullptr || !list->is_array()) {
        return Error::invalid("the source's disks are told in a way that is not known here");
    }
    LiveDisks disks;
    disks.files = json.string_or("files");
    for (const Json& one : list->as_array()) {
        LiveDisk disk{one.string_or("id"),
                      one.string_or("file"),
                      one.string_or("format"),
                      one.string_or("backing"),
                      one.string_or("backing_format"),
                      static_cast<uint64_t>(one.integer_or("size")),
                      static_cast<uint64_t>(one.integer_or("allocated"))};
        const bool plain = transfer::is_plain_name(disk.file) &&
                           (disk.backing.empty() || transfer::is_plain_name(disk.backing));
        if (disk.id.empty() || !plain || disk.size == 0 || disk.size > kDiskSizeMax ||
            (disk.format != "raw" && disk.format != "qcow2") ||
            (disk.format == "raw" && !disk.backing.empty())) {
            return Error::invalid("the source's disk '{}' ({}, {} bytes) cannot be made here",
                                  disk.id, disk.format, disk.size);
        }
        disks.disks.push_back(std::move(disk));
    }
    return disks;
}

std::vector<std::string> LiveDisks::ids() const {
    std::vector<std::string> ids;
    for (const LiveDisk& disk : disks) {
        ids.push_back(disk.id);
    }
    return ids;
}

Result<std::vector<LiveDisk>> live_disks_of(const InstanceFolder& folder,
                                            const RootDiskOptions& options) {
    std::vector<LiveDisk> disks;
    if (path_exists(folder.disk())) {
        const RootDisk root = TRY(root_disk(folder));
        const uint64_t size = TRY(virtual_size(root));
        LiveDisk disk{"root", name_of(root.path),        root.format, "", "",
                      size,   allocated_bytes(root.path)};
        if (path_exists(base_of(root.path))) {
            disk.backing = name_of(base_of(root.path));
            disk.backing_format = TRY(backing_format_of(root, options));
        }
        disks.push_back(std::move(disk));
    }
    if (path_exists(folder.ephemeral())) {
        disks.push_back(TRY(raw_disk("ephemeral0", folder.ephemeral())));
    }
    if (path_exists(folder.swap())) {
        disks.push_back(TRY(raw_disk("swap", folder.swap())));
    }
    return disks;
}

Result<std::vector<std::string>> still_files_of(const InstanceFolder& folder,
                                                const std::vector<LiveDisk>& moving) {
    std::vector<std::string> files;
    for (const std::string& name : TRY(list_directory(folder.path()))) {
        struct stat status {};
        const bool is_file =
            ::lstat((folder.path() + "/" + name).c_str(), &status) == 0 && S_ISREG(status.st_mode);
        const bool moves = std::ranges::find(moving, name, &LiveDisk::file) != moving.end();
        if (is_file && !moves && !stays_here(name)) {
            files.push_back(name);
        }
    }
    return files;
}

std::string moved_console_log(const InstanceFolder& folder) {
    return folder.path() + "/console.log.moved";
}

Result<void> copy_console_log(const InstanceFolder& from, const std::string& to) {
    const auto size = file_size(from.console_log());
    if (!size.ok() || *size == 0 || *size > kConsoleLogMax) {
        return {};
    }
    const std::string text = TRY(read_file(from.console_log(), kConsoleLogMax));
    return write_file_atomic(to, text, 0640);
}

Result<void> make_empty_disks(const InstanceFolder& folder, const std::vector<LiveDisk>& disks,
                              const RootDiskOptions& options) {
    for (const LiveDisk& disk : disks) {
        const std::string path = folder.path() + "/" + disk.file;
        if (disk.format == "raw") {
            TRY(make_blank_disk(path, disk.size));
            continue;
        }
        std::vector<std::string> argv = {options.img_path, "create"};
        if (disk.backing.empty()) {
            argv.insert(argv.end(), {"-f", "qcow2"});
        } else {
            argv.insert(argv.end(), {"-b", disk.backing, "-F", disk.backing_format});
        }
        argv.insert(argv.end(), {path, std::to_string(disk.size)});
        CommandOptions command;
        command.directory = folder.path();
        TRY_CONTEXT(run_checked(argv, command), "making the disk {} of an arriving server",
                    disk.file);
    }
    return {};
}

}  // namespace kumoi::compute
