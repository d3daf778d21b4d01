// KumoiVmmDriver, part three: servers that leave for another host, and those that come from one.
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "base/log.h"
#include "base/uuid.h"
#include "compute/driver/kumoi_vmm_driver.h"
#include "compute/driver/resize_folder.h"
#include "compute/driver/resize_rules.h"

namespace kumoi::compute {
namespace {

constexpr std::string_view kSharedInfo = R"({"format":"kumoi-shared-1"})";
constexpr std::string_view kProbePrefix = "_probe-";

// In the folder of a server that came from elsewhere: by which move.
std::string arrival_note(const InstanceFolder& folder) {
    return folder.path() + "/arrived.json";
}

bool has_arrived(const InstanceFolder& folder, const std::string& disk_info) {
    const auto text = read_file(arrival_note(folder));
    const auto note = text.ok() ? Json::parse(*text) : Result<Json>(Json());
    if (!note.ok() || note->is_null()) {
        return false;
    }
    const auto info = Json::parse(disk_info);
    return disk_info.empty() ||
           (info.ok() && info->string_or("identity") == note->string_or("identity"));
}

// What of a folder is moved: plain files that belong to no process of this host.
Result<std::vector<std::string>> moved_files(const std::string& path) {
    std::vector<std::string> files;
    for (const std::string& name : TRY(list_directory(path))) {
        struct stat status {};
        const std::string file = path + "/" + name;
        if (::lstat(file.c_str(), &status) == 0 && S_ISREG(status.st_mode) && name[0] != '.' &&
            name != "lock" && name != "process.json" && name != "pid" && name != "cgroups.json" &&
            name != "arrived.json") {
            files.push_back(name);
        }
    }
    return files;
}

}  // namespace

Result<void> KumoiVmmDriver::load_offers() {
    return transfer_.load(moved_files);
}

Result<std::string> KumoiVmmDriver::migrate_disk_away(const Instance& instance,
                                                      const Flavor& new_flavor,
                                                      const std::string& migration_uuid,
                                                      bool shared, int64_t timeout_s) {
    const InstanceFolder folder = folder_of(instance);
    if (!resize_folder::is_kept(folder)) {
        TRY(existing_folder(instance));
        TRY(check_resize(instance.flavor, new_flavor));
        TRY(power_off(instance, timeout_s));
        TRY(shared ? resize_folder::keep_aside(folder) : resize_folder::put_aside(folder));
    }
    if (shared || folder.exists()) {
        return std::string(kSharedInfo);
    }
    return transfer_.offer(instance.uuid, migration_uuid, folder.resize_kept(),
                           TRY(moved_files(folder.resize_kept())));
}

Result<void> KumoiVmmDriver::receive_disk(const Instance& instance, const std::string& disk_info) {
    const InstanceFolder folder = folder_of(instance);
    if (disk_info == kSharedInfo ||
        (disk_info.empty() && folder.exists() && resize_folder::is_kept(folder))) {
        TRY(existing_folder(instance));
        return {};
    }
    if (folder.exists()) {
        if (has_arrived(folder, disk_info)) {
            return {};  // before a crash
        }
        return Error::conflict("{} exists already", folder.path())
            .with_hint("It may be left from an earlier stay; look before removing it.");
    }
    const auto report = TRY_CONTEXT(transfer_.receive(instance.uuid, disk_info, folder.incoming()),
                                    "fetching the disks of server {}", instance.uuid);
    log_info("driver", "the disks of a server came from another host",
             {{"server", instance.uuid},
              {"mib", report.bytes >> 20},
              {"seconds", static_cast<double>(report.duration_ns) / 1e9},
              {"connections", report.connections}});
    return settle_in(instance, folder);
}

// The transfer's own note becomes ours, and the folder gets its name when it is whole.
Result<void> KumoiVmmDriver::settle_in(const Instance& instance, const InstanceFolder& folder) {
    const InstanceFolder incoming(options_.instances_path, instance.uuid + "_incoming");
    const std::string note = TRY(read_file(incoming.path() + "/.transfer.json"));
    const Json json = TRY(Json::parse(note));
    const Json arrival = Json::object({{"identity", json.string_or("identity")}});
    TRY(write_file_atomic(arrival_note(incoming), arrival.dump(), 0600));
    TRY(remove_file(incoming.path() + "/.transfer.json"));
    if (::rename(incoming.path().c_str(), folder.path().c_str()) != 0) {
        return Error::from_errno(errno, "renaming " + incoming.path());
    }
    TRY(sync_directory(options_.instances_path));
    transfer_.forget(instance.uuid);
    return {};
}

Result<void> KumoiVmmDriver::leave(const Instance& instance, bool keep_disks) {
    const InstanceFolder folder = folder_of(instance);
    TRY(remove_tree(folder.incoming()));
    transfer_.forget(instance.uuid);
    if (!folder.exists()) {
        return {};
    }
    TRY(stop_guest(instance, folder));
    transfer_.withdraw(instance.uuid);
    TRY(live_.forget(instance.uuid));
    return keep_disks ? Result<void>() : remove_tree(folder.path());
}

bool KumoiVmmDriver::has_disks(const Instance& instance) {
    return path_exists(folder_of(instance).disk());
}

Result<std::vector<std::string>> KumoiVmmDriver::list_kept_uuids() {
    constexpr std::string_view kEnding = "_resize";
    std::vector<std::string> uuids;
    for (const std::string& name : TRY(list_directory(options_.instances_path))) {
        if (name.ends_with(kEnding) && Uuid::parse(name.substr(0, name.size() - kEnding.size()))) {
            uuids.push_back(name.substr(0, name.size() - kEnding.size()));
        }
    }
    return uuids;
}

Result<std::string> KumoiVmmDriver::make_probe() {
    const std::string name = std::string(kProbePrefix) + Uuid::generate(random_).text();
    TRY(write_file_atomic(options_.instances_path + "/" + name, "", 0600));
    return name;
}

bool KumoiVmmDriver::has_probe(const std::string& name) {
    return name.starts_with(kProbePrefix) && Uuid::parse(name.substr(kProbePrefix.size())) &&
           path_exists(options_.instances_path + "/" + name);
}

void KumoiVmmDriver::remove_probe(const std::string& name) {
    if (name.starts_with(kProbePrefix) && name.find('/') == std::string::npos) {
        (void)remove_file(options_.instances_path + "/" + name);
    }
}

}  // namespace kumoi::compute
