// KumoiVmmDriver, part five: servers that move while they run (live_migration.h).
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/file.h"
#include "base/log.h"
#include "base/version.h"
#include "compute/driver/guest_resources.h"
#include "compute/driver/guest_volumes.h"
#include "compute/driver/host_inventory.h"
#include "compute/driver/kumoi_vmm_driver.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kBytesPerMib = 1 << 20;
constexpr int64_t kMibPerGib = 1024;

// Where the volumes are on the machine's bus: the guest finds them there again.
Json volume_slots(const std::vector<VolumeDisk>& volumes) {
    Json slots = Json::object();
    for (const VolumeDisk& volume : volumes) {
        slots.set(volume.volume_id, volume.slot);
    }
    return slots;
}

void take_slots(std::vector<VolumeDisk>& volumes, const Json& slots) {
    for (VolumeDisk& volume : volumes) {
        volume.slot = static_cast<unsigned>(slots.integer_or(volume.volume_id, volume.slot));
    }
}

// Strings that name a file in `from` of those that belong to a process get its name in `to`.
void move_paths(Json& json, const InstanceFolder& from, const InstanceFolder& to) {
    if (json.is_object()) {
        for (auto& [key, value] : json.as_object()) {
            move_paths(value, from, to);
        }
    } else if (json.is_array()) {
        for (Json& item : json.as_array()) {
            move_paths(item, from, to);
        }
    } else if (json.is_string()) {
        const auto of_process = [](const InstanceFolder& folder) {
            return std::vector<std::string>{folder.control_socket(), folder.console_socket(),
                                            folder.vnc_socket(),     folder.agent_socket(),
                                            folder.pid_file(),       folder.console_log()};
        };
        const auto before = of_process(from);
        const auto found = std::ranges::find(before, json.as_string());
        if (found != before.end()) {
            json = of_process(to)[static_cast<size_t>(found - before.begin())];
        }
    }
}

// A guest that stays after all is connected to its volumes anew: to one that was plugged while it
// ran it can be only by what it was given before.
void offer_way_back(const GuestProcess& process, const std::vector<VolumeDisk>& volumes) {
    for (const VolumeDisk& volume : volumes) {
        if (const auto offered = offer_connection(process, volume.socket); !offered.ok()) {
            log_warn("driver", "a volume could not be had again if the guest stays",
                     {{"volume", volume.volume_id}, {"why", offered.error().text()}});
        }
    }
}

Result<Uuid> parse_migration(const std::string& text) {
    const auto id = Uuid::parse(text);
    return id ? Result<Uuid>(*id) : Error::invalid("'{}' names no migration", text);
}

}  // namespace

LiveFacts KumoiVmmDriver::live_facts() const {
    LiveFacts facts;
    facts.host = options_.process.host;
    facts.version = kVersion;
    facts.boards = {"kumoi-1"};
    facts.cpu_model = options_.guest.cpu_model;
    facts.cpu_masked = options_.guest.cpu_features_masked;
    facts.vhost_net = options_.guest.vhost_net;
    if (const auto host = host_inventory(options_.instances_path); host.ok()) {
        const auto cpu = Json::parse(host->cpu_info_json);
        facts.cpu_info = cpu.ok() ? *cpu : Json::object();
        facts.disk_available_mb = host->local_gb_free * kMibPerGib;
    }
    return facts;
}

Result<std::string> KumoiVmmDriver::live_migration_facts(const Instance&) {
    LiveFacts facts = live_facts();
    facts.probe = TRY(make_probe());
    return facts.text();
}

void KumoiVmmDriver::discard_live_migration_facts(const std::string& facts) {
    if (const auto parsed = LiveFacts::parse(facts); parsed.ok()) {
        remove_probe(parsed->probe);
    }
}

Result<LiveSubject> KumoiVmmDriver::live_subject(const Instance& instance, const LiveFacts& there) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    LiveSubject subject;
    subject.running = TRY(process_of(folder).is_alive());
    subject.rescued = path_exists(folder.rescue());
    subject.sees_probe = !there.probe.empty() && has_probe(there.probe);
    const auto disks = TRY(live_disks_of(folder, options_.disk));
    const auto still = TRY(still_files_of(folder, disks));
    subject.has_local_disks = !disks.empty();  // other files are fetched before the move
    for (const LiveDisk& disk : disks) {
        subject.disk_needed_mb += static_cast<int64_t>(disk.allocated) / kBytesPerMib;
        subject.disk_virtual_mb += static_cast<int64_t>(disk.size) / kBytesPerMib;
    }
    for (const std::string& name : still) {
        const auto size = static_cast<int64_t>(TRY(file_size(folder.path() + "/" + name)));
        subject.disk_needed_mb += size / kBytesPerMib;
        subject.disk_virtual_mb += size / kBytesPerMib;
    }
    return subject;
}

Result<LiveMigrationPlan> KumoiVmmDriver::check_live_migration(
    const Instance& instance, const LiveMigrationQuestion& question) {
    const LiveFacts there = TRY(LiveFacts::parse(question.facts));
    const LiveSubject subject = TRY(live_subject(instance, there));
    std::vector<std::string> reasons = live_obstacles(live_facts(), there, subject);
    auto plan = plan_live_migration(question, subject);
    if (!plan.ok() && reasons.empty()) {
        return plan;
    }
    if (!plan.ok()) {
        reasons.push_back(plan.error().message);
    } else {
        std::ranges::move(live_disk_obstacles(question, *plan, there, subject),
                          std::back_inserter(reasons));
    }
    return reasons.empty() ? plan : Result<LiveMigrationPlan>(migration_pre_check_error(reasons));
}

Result<std::string> KumoiVmmDriver::live_migration_disks(const Instance& instance) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    LiveDisks disks;
    disks.disks = TRY(live_disks_of(folder, options_.disk));
    TRY(copy_console_log(folder, moved_console_log(folder)));
    auto still = TRY(still_files_of(folder, disks.disks));
    if (!still.empty()) {
        const std::string offer = Uuid::generate(random_).text();
        disks.files = TRY(transfer_.offer(instance.uuid, offer, folder.path(), std::move(still)));
    }
    return disks.text();
}

Result<std::string> KumoiVmmDriver::pre_live_migration(const LiveMigrationArrival& arrival) {
    const Instance& instance = arrival.instance;
    const Uuid id = TRY(parse_migration(arrival.migration_uuid));
    TRY(check_guest_supported(instance));
    TRY(rollback_live_migration(instance, true));  // of an earlier try
    const LiveFolder folder(options_.instances_path, instance.uuid, options_.process.host);
    const bool shared = arrival.plan.shared_instance_path;
    if (!shared && folder.server().exists()) {
        return Error::conflict("{} exists already", folder.server().path())
            .with_hint("It may be left from an earlier stay; look before removing it.")
            .with_fault("DestinationDiskExists");
    }
    auto invited = [&]() -> Result<std::string> {
        LiveDisks disks;
        if (!arrival.disks.empty()) {
            disks = TRY(LiveDisks::parse(arrival.disks));
        }
        if (shared) {
            TRY(make_directories(folder.arriving().path(), 0700));
            TRY(write_volumes(folder.arriving(), arrival.volumes));
        } else {
            TRY(build_arrival(arrival, disks));
        }
        TRY(write_arrival(instance, folder, shared, 0));
        return live_.invite(instance.uuid, id, shared, disks.ids());
    }();
    if (!invited.ok()) {
        (void)live_.forget(instance.uuid);
        (void)remove_tree(folder.arriving().path());
        if (!shared) {
            (void)remove_tree(folder.server().path());
            (void)remove_tree(folder.server().incoming());
        }
    }
    return invited;
}

// The folder gets its name when all is in it that must be there before the guest.
Result<void> KumoiVmmDriver::build_arrival(const LiveMigrationArrival& arrival,
                                           const LiveDisks& disks) {
    const Instance& instance = arrival.instance;
    const InstanceFolder folder = folder_of(instance);
    const InstanceFolder incoming(options_.instances_path, instance.uuid + "_incoming");
    TRY(make_directories(incoming.path(), 0700));
    if (!disks.files.empty()) {
        TRY_CONTEXT(transfer_.receive(instance.uuid, disks.files, incoming.path()),
                    "fetching the files of server {}", instance.uuid);
        TRY(remove_file(incoming.path() + "/.transfer.json"));
        transfer_.forget(instance.uuid);
    }
    if (const std::string log = moved_console_log(incoming); path_exists(log)) {
        if (::rename(log.c_str(), incoming.console_log().c_str()) != 0) {
            return Error::from_errno(errno, "renaming " + log);
        }
    }
    TRY(make_empty_disks(incoming, disks.disks, options_.disk));
    TRY(make_nvram(instance.image.properties, incoming, options_.guest.firmware));
    std::vector<VolumeDisk> volumes = arrival.volumes;
    assign_volume_slots(volumes, {});
    TRY(write_volumes(incoming, volumes));
    if (::rename(incoming.path().c_str(), folder.path().c_str()) != 0) {
        return Error::from_errno(errno, "renaming " + incoming.path());
    }
    return sync_directory(options_.instances_path);
}

Result<void> KumoiVmmDriver::write_arrival(const Instance& instance, const LiveFolder& folder,
                                           bool shared, uint64_t epoch) {
    if (!shared) {
        return write_configs(instance, folder.server(), false);  // its disks are not the source's
    }
    GuestFiles files = TRY(files_of(folder.server()));
    files.volumes = TRY(read_volumes(folder.arriving()));
    assign_volume_slots(files.volumes, TRY(read_volumes(folder.server())));
    Json guest = guest_config(instance, folder.server(), files, options_.guest);
    move_paths(guest, folder.server(), folder.arriving());
    options_.leases.add_held_locks(guest, folder.server(), epoch);
    {
        const std::lock_guard lock(cpus_mutex_);
        TRY(assign_cpus(guest, instance, options_.cpus, Json(), TRY(other_guests(instance))));
        TRY(write_file_atomic(folder.arriving().guest_config(), guest.dump_pretty(), 0600));
    }
    return write_file_atomic(folder.arriving().config(), instance_to_json(instance).dump_pretty(),
                             0600);
}

Result<void> KumoiVmmDriver::start_arrival(const LiveFolder& folder, const LiveNote& note,
                                           const Json& terms) {
    const InstanceFolder place = folder.process(note);
    const Json record = TRY(Json::parse(TRY(read_file(place.config()))));
    const Instance instance = TRY(instance_from_json(record));
    auto volumes = TRY(read_volumes(place));
    if (const Json* slots = terms.find("volume_slots"); slots != nullptr && slots->is_object()) {
        take_slots(volumes, *slots);
    }
    TRY(write_volumes(place, volumes));
    TRY(write_arrival(instance, folder, note.shared, note.epoch));
    if (note.shared) {  // its own takes the place of the source's once it is here
        TRY(copy_console_log(folder.server(), place.console_log()));
    }
    const GuestLimits limits = guest_limits(instance, options_.guest_overhead_mib);
    const auto procs = TRY(cgroups_.make(place, instance.uuid, limits));
    auto started = GuestProcess(options_.process, place, clock_).start({"--incoming"}, procs);
    if (!started.ok()) {
        cgroups_.remove(place);
    }
    return started;
}

LiveMigrationOutcome KumoiVmmDriver::live_migration(const Instance& instance,
                                                    const LiveMigrationDeparture& departure,
                                                    LiveMigrationObserver& observer) {
    const InstanceFolder folder = folder_of(instance);
    std::vector<std::string> copied;
    if (departure.plan.block_migration) {
        const auto disks = live_disks_of(folder, options_.disk);
        if (!disks.ok()) {
            return LiveMigrationOutcome::stayed(disks.error());
        }
        copied = LiveDisks{*disks, ""}.ids();
    }
    const auto volumes = read_volumes(folder);
    if (!volumes.ok()) {
        return LiveMigrationOutcome::stayed(volumes.error());
    }
    offer_way_back(process_of(folder), *volumes);
    monitor_.remove(instance.uuid);  // its end is no news
    Json terms = Json::object({{"volume_slots", volume_slots(*volumes)}});
    return end_departure(instance, live_.depart(instance.uuid, departure, std::move(copied),
                                                std::move(terms), observer));
}

LiveMigrationOutcome KumoiVmmDriver::follow_live_migration(const Instance& instance,
                                                           const LiveMigrationOptions& options,
                                                           LiveMigrationObserver& observer) {
    monitor_.remove(instance.uuid);
    return end_departure(instance, live_.follow(instance.uuid, options, observer));
}

LiveMigrationOutcome KumoiVmmDriver::end_departure(const Instance& instance,
                                                   LiveMigrationOutcome outcome) {
    transfer_.withdraw(instance.uuid);
    (void)remove_file(moved_console_log(folder_of(instance)));
    if (outcome.kind == LiveMigrationOutcome::Kind::Stayed) {
        const auto watched = watch_guest(instance, folder_of(instance));
        if (!watched.ok()) {
            log_warn("driver", "a server that stayed is not watched",
                     {{"server", instance.uuid}, {"why", watched.error().text()}});
        }
    }
    return outcome;
}

Result<void> KumoiVmmDriver::abort_live_migration(const Instance& instance) {
    return live_.abort(instance.uuid);
}

Result<void> KumoiVmmDriver::force_complete_live_migration(const Instance& instance) {
    return live_.force(instance.uuid);
}

Result<void> KumoiVmmDriver::finish_live_migration(const Instance& instance) {
    const GuestOwner owner = TRY(live_.outcome(instance.uuid));
    if (owner != GuestOwner::Here) {
        return Error::conflict("the guest of server {} is {}, not this host's", instance.uuid,
                               to_string(owner));
    }
    TRY(live_.arrived(instance.uuid));
    const InstanceFolder folder = TRY(existing_folder(instance));
    TRY(write_file_atomic(folder.config(), instance_to_json(instance).dump_pretty(), 0600));
    return TRY(process_of(folder).is_alive()) ? watch_guest(instance, folder) : Result<void>();
}

Result<void> KumoiVmmDriver::rollback_live_migration(const Instance& instance, bool destroy_disks) {
    const LiveFolder folder(options_.instances_path, instance.uuid, options_.process.host);
    const auto note = TRY(folder.read(options_.process.host, LiveNote::Role::Destination));
    TRY(remove_tree(folder.server().incoming()));
    if (!note || (note->verdict == LiveNote::Verdict::Here && !destroy_disks)) {
        return {};
    }
    const GuestProcess process(options_.process, folder.process(*note), clock_);
    const GuestOwner owner = TRY(live_.outcome(instance.uuid));
    const bool stale = note->verdict == LiveNote::Verdict::Here && !TRY(process.is_alive());
    if (owner != GuestOwner::Incoming && !stale) {
        return Error::conflict("the guest of server {} is {}: nothing of it is removed",
                               instance.uuid, to_string(owner));
    }
    if (!stale) {
        TRY(process.stop());
        cgroups_.remove(folder.process(*note));
        // Its journal says from now on that it declined, or that it was the owner.
        if (const GuestOwner left = TRY(live_.outcome(instance.uuid));
            left != GuestOwner::Incoming) {
            return Error::conflict("the guest of server {} is {}: nothing of it is removed",
                                   instance.uuid, to_string(left));
        }
    }
    TRY(live_.forget(instance.uuid));
    TRY(remove_tree(folder.arriving().path()));
    transfer_.forget(instance.uuid);
    return stale || note->shared ? Result<void>() : remove_tree(folder.server().path());
}

Result<GuestOwner> KumoiVmmDriver::live_migration_outcome(const Instance& instance) {
    return live_.outcome(instance.uuid);
}

}  // namespace kumoi::compute
