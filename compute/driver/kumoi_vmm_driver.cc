#include "compute/driver/kumoi_vmm_driver.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/file.h"
#include "base/log.h"
#include "base/subprocess.h"
#include "base/uuid.h"
#include "compute/driver/config_drive.h"
#include "compute/driver/console_tail.h"
#include "compute/driver/disk_file.h"
#include "compute/driver/guest_diagnostics.h"
#include "compute/driver/guest_resources.h"
#include "compute/driver/guest_volumes.h"
#include "compute/driver/host_inventory.h"
#include "compute/driver/resize_folder.h"
#include "compute/manager/manager_options.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kButtonIntervalMs = 10'000;  // between two presses while a guest shuts down
constexpr int64_t kEndGraceMs = 2'000;         // from the last word of a process to its end

// One of our programs: beside this one, else in PATH.
Result<std::string> find_beside(const std::string& name) {
    std::array<char, 4096> self{};
    const ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size() - 1);
    if (length > 0) {
        const std::string path(self.data(), static_cast<size_t>(length));
        const std::string beside = path.substr(0, path.rfind('/') + 1) + name;
        if (path_exists(beside)) {
            return beside;
        }
    }
    return TRY_CONTEXT(find_program(name), "looking for our own programs");
}

int power_state_from(const std::string& word) {
    if (word == "running") {
        return power_states::kRunning;
    }
    if (word == "paused") {
        return power_states::kPaused;
    }
    if (word == "crashed") {
        return power_states::kCrashed;
    }
    return word == "shutdown" ? power_states::kShutdown : power_states::kNoState;
}

std::string image_property(const Instance& instance, const char* name) {
    const auto found = instance.image.properties.find(name);
    return found == instance.image.properties.end() ? "" : found->second;
}

// Null when it is not there or no JSON.
Json read_json(const std::string& path) {
    const auto text = read_file(path);
    auto json = text.ok() ? Json::parse(*text) : Result<Json>(Json());
    return json.ok() ? std::move(json).value() : Json();
}

Result<CpuSet> cpu_option(const Config& config, const char* name) {
    const std::string text = config.string("compute", name);
    return text.empty() ? Result<CpuSet>(CpuSet())
                        : TRY_CONTEXT(parse_cpu_set(text), "[compute] {}", name);
}

LiveMoveOptions live_options(const KumoiDriverOptions& options) {
    LiveMoveOptions live = options.live;
    live.instances_path = options.instances_path;
    live.host = options.process.host;
    return live;
}

}  // namespace

Result<KumoiDriverOptions> KumoiDriverOptions::from_config(const Config& config) {
    KumoiDriverOptions options;
    options.instances_path = config.string("DEFAULT", "instances_path");
    if (options.instances_path.empty()) {
        options.instances_path = config.string("DEFAULT", "state_path") + "/instances";
    }
    options.process.host = configured_host(config);
    options.process.vmm_path = config.string("kumoi", "vmm_path");
    if (options.process.vmm_path.empty()) {
        options.process.vmm_path = TRY(find_beside("kumoi-vmm"));
    }
    options.process.start_timeout_ms = config.integer("kumoi", "start_timeout") * 1000;
    options.cgroup_parent = config.string("kumoi", "cgroup_parent");
    options.guest_overhead_mib = config.integer("kumoi", "guest_memory_overhead");
    options.guest.cpu_model = config.string("kumoi", "cpu_model");
    options.guest.cpu_features_masked = config.list("kumoi", "cpu_features_masked");
    options.cpus.dedicated = TRY(cpu_option(config, "cpu_dedicated_set"));
    options.cpus.shared = TRY(cpu_option(config, "cpu_shared_set"));
    for (const int64_t cpu : options.cpus.dedicated) {
        if (options.cpus.shared.contains(cpu)) {
            return Error::invalid(
                "processor {} is in [compute] cpu_dedicated_set and cpu_shared_set", cpu);
        }
    }
    options.guest.numa_nodes = host_numa_nodes();
    options.guest.kernel_append = config.string("kumoi", "kernel_append");
    options.guest.vhost_net = config.string("kumoi", "vhost_net");
    options.guest.firmware.bios = config.string("kumoi", "bios_firmware");
    options.guest.firmware.uefi_code = config.string("kumoi", "uefi_firmware");
    options.guest.firmware.uefi_variables = config.string("kumoi", "uefi_variables");
    options.guest.display.enabled = config.boolean("vnc", "enabled");
    options.guest.display.vgabios = config.string("kumoi", "vga_firmware");
    if (!path_exists(options.guest.display.vgabios)) {
        log_warn("driver", "no option ROM for displays: BIOS guests start without a picture",
                 {{"path", options.guest.display.vgabios}});
        options.guest.display.vgabios.clear();
    }
    options.guest.console_log_size_max = config.integer("kumoi", "console_log_size_max");
    options.detach.attempts = config.integer("kumoi", "device_detach_attempts");
    options.detach.timeout_ms = config.integer("kumoi", "device_detach_timeout") * 1000;
    options.agent.sync_timeout_ms = config.integer("kumoi", "guest_agent_timeout") * 1000;
    options.transfer = TRY(DiskTransferOptions::from_config(config, options.instances_path));
    options.live = TRY(LiveMoveOptions::from_config(config, options.instances_path));
    if (options.live.relay.program.empty()) {
        // Without it, or with it elsewhere, only a migration fails.
        options.live.relay.program = find_beside("kumoi-relay").value_or("kumoi-relay");
    }
    options.leases = TRY(DiskLeases::from_config(config, options.instances_path));
    options.snapshot_image_format = config.string("kumoi", "snapshot_image_format");
    options.disk.img_path = TRY(find_beside("kumoi-img"));
    options.disk.use_cow_images = config.boolean("DEFAULT", "use_cow_images");
    options.force_raw_images = config.boolean("DEFAULT", "force_raw_images");
    options.force_config_drive = config.boolean("DEFAULT", "force_config_drive");
    return options;
}

KumoiVmmDriver::KumoiVmmDriver(KumoiDriverOptions options, ImageApi& images, ImageCache& cache,
                               const Clock& clock, Random& random)
    : options_(std::move(options)),
      images_(images),
      cache_(cache),
      clock_(clock),
      random_(random),
      monitor_(clock),
      cgroups_(options_.cgroup_parent),
      transfer_(options_.transfer, clock, random),
      live_(live_options(options_),
            {options_.process, clock, random,
             [this](const LiveFolder& folder, const LiveNote& note, const Json& terms) {
                 return start_arrival(folder, note, terms);
             }}) {}

Result<void> KumoiVmmDriver::init_host(const std::string&) {
    TRY(make_directories(options_.instances_path, 0711));
    const InstanceFolder longest(options_.instances_path, Uuid().text());
    if (longest.control_socket().size() > kSocketPathMax) {
        return Error::invalid(
                   "instances_path {} is too long: {} would have {} bytes, a unix socket's "
                   "path may have {}",
                   options_.instances_path, longest.control_socket(),
                   longest.control_socket().size(), kSocketPathMax)
            .with_hint("Choose a shorter one.");
    }
    if (::access(options_.process.vmm_path.c_str(), X_OK) != 0) {
        return Error::not_found("{} is not there or may not be run", options_.process.vmm_path)
            .with_hint("Set [kumoi] vmm_path.");
    }
    if (const auto kvm = open_file("/dev/kvm", O_RDWR); !kvm.ok()) {
        return Error::unavailable("This host cannot run guests: {}", kvm.error().message)
            .with_hint(
                "Load kvm_intel or kvm_amd and give this user access to /dev/kvm, or set "
                "compute_driver = simulated. `kumoi check` tells more.");
    }
    TRY(cache_.clean_up());
    TRY(remove_tree(snapshots_path()));
    TRY_CONTEXT(load_offers(), "offering the folders of servers that move");
    TRY_CONTEXT(live_.load(), "taking up live migrations");
    for (const std::string& uuid : TRY(list_instance_uuids())) {
        const InstanceFolder folder(options_.instances_path, uuid);
        settle_upgrade(folder, uuid);
        const auto alive = process_of(folder).is_alive();
        if (!alive.ok() || !*alive) {
            cgroups_.remove(folder);
            continue;
        }
        const auto watched =
            monitor_.add(uuid, folder.control_socket(), options_.process.control_timeout_ms);
        log_info("driver", "found a running guest again",
                 {{"server", uuid}, {"listening", watched.ok()}});
    }
    return {};
}

void KumoiVmmDriver::set_event_listener(std::function<void(const LifecycleEvent&)> listener) {
    monitor_.set_listener(std::move(listener));
}

Result<void> KumoiVmmDriver::spawn(const SpawnRequest& request) {
    TRY(check_guest_supported(request.instance));
    const InstanceFolder folder = folder_of(request.instance);
    if (folder.exists()) {
        return Error::conflict("{} exists already", folder.path())
            .with_hint(
                "It may be left from a server of another database; look before removing it.");
    }
    auto spawned = [&]() -> Result<void> {
        TRY(build_folder(request, folder));
        return start_guest(request.instance, folder);
    }();
    if (!spawned.ok()) {
        const auto removed = destroy(request.instance);
        if (!removed.ok()) {
            log_error("driver", "a failed spawn left files behind",
                      {{"why", removed.error().text()}});
        }
    }
    return spawned;
}

Result<void> KumoiVmmDriver::build_folder(const SpawnRequest& request,
                                          const InstanceFolder& folder) {
    const Instance& instance = request.instance;
    TRY(make_directories(folder.path(), 0700));
    std::vector<VolumeDisk> volumes = request.volumes;
    assign_volume_slots(volumes, {});
    TRY(write_volumes(folder, volumes));
    if (root_volume(volumes) == nullptr) {
        TRY(make_root(request, folder));
    }
    TRY(make_nvram(instance.image.properties, folder, options_.guest.firmware));
    if (boot_method(instance.image.properties) == BootMethod::Kernel) {
        TRY(fetch_kernel(request, folder));
    }
    TRY(make_extra_disks(instance.flavor, folder));
    if (instance.config_drive || options_.force_config_drive) {
        TRY(write_config_drive(request, folder.config_drive()));
    }
    return {};
}

Result<void> KumoiVmmDriver::make_root(const SpawnRequest& request, const InstanceFolder& folder) {
    const Instance& instance = request.instance;
    if (instance.image_id.empty()) {
        return Error::unsupported("Server {} has neither an image nor a volume to boot from",
                                  instance.uuid)
            .with_fault("ImageUnacceptable");
    }
    const ImageMeta image = TRY(images_.show(request.context, instance.image_id));
    const CachedImage root = TRY(fetch_disk_image(request.context, image));
    if (image.disk_format == "iso") {  // a CD beside an empty root disk, as Nova has it
        TRY(copy_sparse(root.path, folder.cdrom()));
        const int64_t blank_gb = std::max<int64_t>(instance.flavor.root_gb, 1);
        TRY(make_blank_disk(folder.disk(), static_cast<uint64_t>(blank_gb) << 30));
    } else {
        const std::string format =
            TRY(make_root_disk(root, instance.flavor.root_gb, folder.disk(), options_.disk));
        TRY(record_root_disk(folder, format));
    }
    return {};
}

Result<CachedImage> KumoiVmmDriver::fetch_disk_image(const RequestContext& context,
                                                     const ImageMeta& image) {
    const bool as_stored = options_.disk.use_cow_images && !options_.force_raw_images;
    return cache_.fetch(context, image, as_stored ? CacheForm::AsStored : CacheForm::Raw);
}

// A swap disk that is there has the wrong size when the flavor changed: what is in it is worth
// nothing. An ephemeral disk keeps its content.
Result<void> KumoiVmmDriver::make_extra_disks(const Flavor& flavor,
                                              const InstanceFolder& folder) const {
    if (flavor.ephemeral_gb > 0 && path_exists(folder.ephemeral())) {
        TRY(grow_disk(folder.ephemeral(), static_cast<uint64_t>(flavor.ephemeral_gb) << 30));
    } else if (flavor.ephemeral_gb > 0) {
        TRY(make_ephemeral_disk(folder.ephemeral(), flavor.ephemeral_gb));
    }
    TRY(remove_file(folder.swap()));
    return flavor.swap_mb > 0 ? make_swap_disk(folder.swap(), flavor.swap_mb) : Result<void>();
}

Result<void> KumoiVmmDriver::fetch_kernel(const SpawnRequest& request,
                                          const InstanceFolder& folder) {
    const Instance& instance = request.instance;
    TRY(fetch_boot_file(request.context, image_property(instance, "kernel_id"), folder.kernel()));
    const std::string ramdisk_id = image_property(instance, "ramdisk_id");
    return ramdisk_id.empty() ? Result<void>()
                              : fetch_boot_file(request.context, ramdisk_id, folder.ramdisk());
}

Result<void> KumoiVmmDriver::fetch_boot_file(const RequestContext& context,
                                             const std::string& image_id, const std::string& to) {
    const ImageMeta image =
        TRY_CONTEXT(images_.show(context, image_id), "looking for the guest's boot image");
    const CachedImage file = TRY(cache_.fetch(context, image));
    return copy_sparse(file.path, to);
}

Result<void> KumoiVmmDriver::write_config_drive(const SpawnRequest& request,
                                                const std::string& to) {
    MetadataOptions metadata;
    metadata.dhcp_domain = options_.dhcp_domain;
    metadata.with_admin_password = true;
    metadata.injected_files = request.injected_files;
    metadata.devices = request.devices;
    const auto built =
        InstanceMetadata::build(request.instance, request.instance.network_info, metadata, random_);
    return make_config_drive(built.files(), to);
}

Result<GuestFiles> KumoiVmmDriver::files_of(const InstanceFolder& folder) const {
    GuestFiles files;
    files.volumes = TRY(read_volumes(folder));
    if (root_volume(files.volumes) == nullptr) {
        files.disk_format = TRY(root_disk(folder)).format;
    }
    files.ramdisk = path_exists(folder.ramdisk());
    files.cdrom = path_exists(folder.cdrom());
    files.ephemeral = path_exists(folder.ephemeral());
    files.swap = path_exists(folder.swap());
    files.config_drive = path_exists(folder.config_drive());
    if (path_exists(folder.rescue())) {
        const Json json = TRY(Json::parse(TRY(read_file(folder.rescue()))));
        GuestFiles::Rescue& rescue = files.rescue.emplace();
        rescue.disk_format = json.string_or("disk_format", "raw");
        rescue.ramdisk = path_exists(folder.rescue_ramdisk());
        rescue.config_drive = path_exists(folder.rescue_config_drive());
        rescue.stable_device = json.bool_or("stable_device");
        if (const Json* properties = json.find("image_properties");
            properties != nullptr && properties->is_object()) {
            for (const auto& [key, value] : properties->as_object()) {
                rescue.image_properties[key] = value.is_string() ? value.as_string() : "";
            }
        }
    }
    return files;
}

Result<void> KumoiVmmDriver::write_configs(const Instance& instance, const InstanceFolder& folder,
                                           bool leased) {
    const GuestFiles files = TRY(files_of(folder));
    Json guest = guest_config(instance, folder, files, options_.guest);
    if (leased) {
        options_.leases.add_locks(guest, folder);
    }
    {
        const std::lock_guard lock(cpus_mutex_);
        TRY(assign_cpus(guest, instance, options_.cpus, read_json(folder.guest_config()),
                        TRY(other_guests(instance))));
        TRY(write_file_atomic(folder.guest_config(), guest.dump_pretty(), 0600));
    }
    return write_file_atomic(folder.config(), instance_to_json(instance).dump_pretty(), 0600);
}

Result<std::vector<Json>> KumoiVmmDriver::other_guests(const Instance& instance) {
    std::vector<Json> guests;
    if (!wants_dedicated_cpus(instance)) {
        return guests;
    }
    for (const std::string& uuid : TRY(list_instance_uuids())) {
        if (uuid != instance.uuid) {
            guests.push_back(
                read_json(InstanceFolder(options_.instances_path, uuid).guest_config()));
        }
    }
    return guests;
}

Result<void> KumoiVmmDriver::start_guest(const Instance& instance, const InstanceFolder& folder) {
    TRY(claim_disks(instance, folder));
    TRY(write_configs(instance, folder));
    TRY(remove_file(folder.saved_state()));  // a guest that boots anew has no use for it
    TRY_CONTEXT(start_process(instance, folder, {}), "starting the guest of server {}",
                instance.uuid);
    return watch_guest(instance, folder);
}

Result<void> KumoiVmmDriver::claim_disks(const Instance& instance, const InstanceFolder& folder) {
    TRY(live_.check_may_start(instance.uuid));  // before the epoch of a guest elsewhere is changed
    return options_.leases.claim(folder);
}

// A guest that has powered off before anybody could listen was started all the same.
Result<void> KumoiVmmDriver::watch_guest(const Instance& instance, const InstanceFolder& folder) {
    auto watched =
        monitor_.add(instance.uuid, folder.control_socket(), options_.process.control_timeout_ms);
    if (watched.ok()) {
        return watched;
    }
    const auto ended = process_of(folder).ended_well(kEndGraceMs);
    if (!ended) {
        return watched;
    }
    monitor_.ended_early(instance.uuid, *ended);
    return {};
}

Result<void> KumoiVmmDriver::stop_guest(const Instance& instance, const InstanceFolder& folder) {
    monitor_.remove(instance.uuid);
    TRY(process_of(folder).stop());
    cgroups_.remove(folder);
    return {};
}

Result<void> KumoiVmmDriver::start_process(const Instance& instance, const InstanceFolder& folder,
                                           const std::vector<std::string>& more) {
    TRY(live_.check_may_start(instance.uuid));
    const GuestLimits limits = guest_limits(instance, options_.guest_overhead_mib);
    const auto procs = TRY(cgroups_.make(folder, instance.uuid, limits));
    auto started = process_of(folder).start(more, procs);
    if (!started.ok() && started.error().code != ErrorCode::Conflict) {
        cgroups_.remove(folder);
    }
    return started;
}

Result<void> KumoiVmmDriver::destroy(const Instance& instance) {
    const InstanceFolder folder = folder_of(instance);
    if (folder.exists()) {
        TRY(stop_guest(instance, folder));
    }
    TRY(live_.forget(instance.uuid));
    TRY(remove_tree(folder.path()));
    TRY(remove_tree(folder.rebuild_work()));
    TRY(remove_tree(folder.incoming()));
    transfer_.withdraw(instance.uuid);
    transfer_.forget(instance.uuid);
    return resize_folder::discard(folder);
}

Result<void> KumoiVmmDriver::power_on(const Instance& instance) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    const InstanceInfo info = TRY(get_info(instance));
    if (info.power_state == power_states::kRunning) {
        return {};
    }
    TRY(stop_guest(instance, folder));  // a process may be left whose guest is down
    return start_guest(instance, folder);
}

Result<void> KumoiVmmDriver::power_off(const Instance& instance, int64_t timeout_s) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    if (timeout_s > 0 && TRY(process_of(folder).is_alive())) {
        const auto down = shut_down(folder, timeout_s);
        if (!down.ok() || !*down) {
            log_info("driver", "the guest did not shut down by itself; its power is cut",
                     {{"server", instance.uuid}, {"timeout_s", timeout_s}});
        }
    }
    return stop_guest(instance, folder);
}

Result<bool> KumoiVmmDriver::shut_down(const InstanceFolder& folder, int64_t timeout_s) const {
    const GuestProcess process = process_of(folder);
    int64_t left_ms = timeout_s * 1000;
    while (left_ms > 0) {
        if (!TRY(press_power_button(folder))) {
            return process.wait_end(0);
        }
        const int64_t step_ms = std::min(left_ms, kButtonIntervalMs);
        if (TRY(process.wait_end(step_ms))) {
            return true;
        }
        left_ms -= step_ms;
    }
    return false;
}

Result<bool> KumoiVmmDriver::press_power_button(const InstanceFolder& folder) const {
    const int64_t timeout_ms = options_.process.control_timeout_ms;
    auto client = TRY(hypervisor::ControlClient::connect(folder.control_socket(), timeout_ms));
    TRY(client.call("subscribe", Json::object(), timeout_ms));
    TRY(client.call("power_button", Json::object(), timeout_ms));
    for (int events = 0; events < 100; ++events) {  // others may come before it
        const auto event = TRY(client.wait_event(timeout_ms));
        if (!event) {
            break;
        }
        if (event->name == "power_button") {
            return event->data.bool_or("guest_listens", true);
        }
    }
    return true;
}

Result<void> KumoiVmmDriver::reboot(const Instance& instance, RebootType type) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    if (type == RebootType::Soft && TRY(process_of(folder).is_alive())) {
        monitor_.remove(instance.uuid);  // its end is no news
        const auto down = shut_down(folder, options_.soft_reboot_timeout_s);
        if (!down.ok() || !*down) {
            log_info("driver", "the guest did not react; the reboot becomes a hard one",
                     {{"server", instance.uuid}});
        }
    }
    TRY(stop_guest(instance, folder));
    return start_guest(instance, folder);
}

Result<void> KumoiVmmDriver::pause(const Instance& instance) {
    TRY(process_of(TRY(existing_folder(instance))).call("pause"));
    return {};
}

Result<void> KumoiVmmDriver::unpause(const Instance& instance) {
    TRY(process_of(TRY(existing_folder(instance))).call("resume"));
    return {};
}

Result<void> KumoiVmmDriver::inject_nmi(const Instance& instance) {
    TRY(process_of(TRY(existing_folder(instance))).call("nmi"));
    return {};
}

Result<InstanceInfo> KumoiVmmDriver::get_info(const Instance& instance) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    const GuestProcess process = process_of(folder);
    if (!TRY(process.is_alive())) {
        cgroups_.remove(folder);  // it ended by itself
        return InstanceInfo{power_states::kShutdown, 0};
    }
    const auto state = process.call("state");
    if (state.ok()) {
        return InstanceInfo{power_state_from(state->string_or("state")), 0};
    }
    if (TRY(process.wait_end(kEndGraceMs))) {  // it was about to end
        cgroups_.remove(folder);
        return InstanceInfo{power_states::kShutdown, 0};
    }
    Error error = state.error();
    error.code = ErrorCode::Unavailable;  // it is here, and does not answer
    return error;
}

Result<std::vector<std::string>> KumoiVmmDriver::list_instance_uuids() {
    std::vector<std::string> uuids;
    for (const std::string& name : TRY(list_directory(options_.instances_path))) {
        const auto uuid = Uuid::parse(name);
        if (!uuid || uuid->text() != name) {
            continue;
        }
        const auto moving = live_.pending(name);
        if (!moving.ok() || !*moving || (*moving)->role == LiveNote::Role::Source) {
            uuids.push_back(name);  // others wait for a guest that is not this host's yet
        }
    }
    return uuids;
}

Result<std::string> KumoiVmmDriver::get_console_output(const Instance& instance,
                                                       int64_t tail_lines) {
    return console_tail(TRY(existing_folder(instance)), tail_lines,
                        static_cast<uint64_t>(options_.guest.console_log_size_max));
}

Result<InstanceFolder> KumoiVmmDriver::running_folder(const Instance& instance) const {
    InstanceFolder folder = TRY(existing_folder(instance));
    if (!TRY(process_of(folder).is_alive())) {
        return Error::conflict("Instance {} is not ready: it does not run", instance.uuid)
            .with_hint("Start it first.")
            .with_fault("InstanceNotReady");
    }
    return folder;
}

Result<std::string> KumoiVmmDriver::get_vnc_console(const Instance& instance) {
    constexpr size_t kConfigMax = 1u << 20;
    const InstanceFolder folder = TRY(running_folder(instance));
    const Json config = TRY(Json::parse(TRY(read_file(folder.guest_config(), kConfigMax))));
    if (config.find("display") == nullptr) {
        return Error::invalid("Unavailable console type novnc.")
            .with_hint(
                "The server has no display: its image has hw_video_model=none, or a kernel_id "
                "without hw_video_model=bochs. Its serial console is there.")
            .with_fault("ConsoleTypeUnavailable");
    }
    return folder.vnc_socket();
}

Result<std::string> KumoiVmmDriver::get_serial_console(const Instance& instance) {
    return TRY(running_folder(instance)).console_socket();
}

Result<Json> KumoiVmmDriver::get_instance_diagnostics(const Instance& instance) {
    const GuestProcess process = process_of(TRY(existing_folder(instance)));
    const Json state = TRY(process.call("state"));
    return guest_diagnostics(instance, state, TRY(process.call("statistics")));
}

Result<HostResources> KumoiVmmDriver::get_available_resource() {
    return host_inventory(options_.instances_path);
}

void KumoiVmmDriver::manage_image_cache() {
    const auto removed = cache_.remove_unused();
    if (!removed.ok()) {
        log_warn("driver", "unused images were not removed", {{"why", removed.error().text()}});
    }
}

InstanceFolder KumoiVmmDriver::folder_of(const Instance& instance) const {
    return {options_.instances_path, instance.uuid};
}

Result<InstanceFolder> KumoiVmmDriver::existing_folder(const Instance& instance) const {
    InstanceFolder folder = folder_of(instance);
    if (!folder.exists()) {
        return Error::not_found("Server {} has no folder {} on this host", instance.uuid,
                                folder.path())
            .with_fault("InstanceNotFound");
    }
    return folder;
}

GuestProcess KumoiVmmDriver::process_of(const InstanceFolder& folder) const {
    return {options_.process, folder, clock_};
}

}  // namespace kumoi::compute
