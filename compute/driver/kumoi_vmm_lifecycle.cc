// KumoiVmmDriver, part two: the verbs that change what a server is made of.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "base/log.h"
#include "compute/driver/disk_backup.h"
#include "compute/driver/disk_file.h"
#include "compute/driver/file_snapshot.h"
#include "compute/driver/guest_volumes.h"
#include "compute/driver/kumoi_vmm_driver.h"
#include "compute/driver/resize_folder.h"
#include "compute/driver/resize_rules.h"
#include "compute/nic_slots.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

std::string property(const Properties& properties, const char* name) {
    const auto found = properties.find(name);
    return found == properties.end() ? "" : found->second;
}

constexpr int64_t kSaveStepMs = 200;

// Nova's sign that the server's own disks keep their places.
bool wants_stable_device(const ImageMeta& image) {
    return image.properties.contains("hw_rescue_device") ||
           image.properties.contains("hw_rescue_bus");
}

Result<void> rename_to(const std::string& from, const std::string& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) {
        return Error::from_errno(errno, fmt::format("renaming {} to {}", from, to));
    }
    return {};
}

}  // namespace

Result<void> KumoiVmmDriver::set_power(const Instance& instance, const InstanceFolder& folder,
                                       bool on) {
    if (on) {
        return power_on(instance);
    }
    TRY(stop_guest(instance, folder));
    return write_configs(instance, folder);
}

Result<void> KumoiVmmDriver::suspend(const Instance& instance) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    const GuestProcess process = process_of(folder);
    if (!TRY(process.is_alive())) {
        return path_exists(folder.saved_state())  // done before a crash of this daemon
                   ? Result<void>()
                   : Result<void>(Error::conflict("Server {} does not run", instance.uuid));
    }
    monitor_.remove(instance.uuid);  // its end is no news
    auto saved = save_state(process, folder);
    if (!saved.ok()) {
        (void)remove_file(folder.saved_state());
        (void)monitor_.add(instance.uuid, folder.control_socket(),
                           options_.process.control_timeout_ms);
    }
    return saved;
}

// Opened here, for the machine can make no file. It gets its name when it is whole and before
// the machine ends: a crash in between leaves a paused guest, which is saved again or resumed.
Result<void> KumoiVmmDriver::save_state(const GuestProcess& process,
                                        const InstanceFolder& folder) const {
    TRY(remove_file(folder.saved_state()));
    const std::string partial = folder.saved_state() + ".part";
    const UniqueFd file = TRY(open_file(partial, O_RDWR | O_CREAT | O_TRUNC, 0600));
    auto saved = write_state(process, folder.saved_state(), file.get());
    if (saved.ok()) {
        saved = rename_to(partial, folder.saved_state());
    }
    if (saved.ok()) {
        saved = sync_directory(folder.path());
    }
    if (!saved.ok()) {
        (void)remove_file(partial);
        (void)process.call("resume");  // where it stands still: it is as it was
        return saved;
    }
    return process.stop();
}

Result<void> KumoiVmmDriver::write_state(const GuestProcess& process, const std::string& path,
                                         int file) const {
    const hypervisor::NamedDescriptor descriptor{path, file};
    const auto begun =
        process.call("save", Json::object({{"path", path}, {"mode", "stop"}, {"after", "pause"}}),
                     std::span(&descriptor, 1));
    if (!begun.ok()) {
        return Error(begun.error())
            .with_context("kumoi-vmm does not keep the state of this guest")
            .with_fault("SuspendNotSupported");
    }
    for (int64_t waited_ms = 0; waited_ms < options_.save_timeout_ms; waited_ms += kSaveStepMs) {
        const auto status = process.call("save_status");
        const std::string state = status.ok() ? status->string_or("state") : "";
        if (state == "done") {
            return {};
        }
        if (state == "failed") {
            const Json* error = status->find("error");
            return Error::unavailable("The guest's state could not be kept: {}",
                                      error != nullptr ? error->string_or("message") : "");
        }
        if (TRY(process.wait_end(kSaveStepMs))) {
            return Error::unavailable("kumoi-vmm ended without keeping the guest's state");
        }
    }
    (void)process.call("save_cancel");
    return Error::timeout("The guest's state was not on disk after {} s",
                          options_.save_timeout_ms / 1000);
}

Result<void> KumoiVmmDriver::resume(const Instance& instance) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    const GuestProcess process = process_of(folder);
    if (!TRY(process.is_alive())) {
        if (!path_exists(folder.saved_state())) {
            return Error::conflict("Server {} has no saved state to resume from", instance.uuid)
                .with_hint("Reboot it hard.");
        }
        TRY(claim_disks(instance, folder));
        TRY(write_configs(instance, folder));
        // All memory is read before the guest runs, so that the file may go.
        const std::vector<std::string> restore = {"--restore", folder.saved_state(),
                                                  "--restore-memory", "all"};
        TRY_CONTEXT(start_process(instance, folder, restore), "resuming the guest of server {}",
                    instance.uuid);
    } else if (const auto state = process.call("state");
               state.ok() && state->string_or("state") == "paused") {
        TRY(process.call("resume"));  // a suspend that a crash of this daemon cut off
    }
    TRY(monitor_.add(instance.uuid, folder.control_socket(), options_.process.control_timeout_ms));
    return remove_file(folder.saved_state());
}

Result<std::unique_ptr<DiskSnapshot>> KumoiVmmDriver::snapshot(const Instance& instance) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    TRY(make_directories(snapshots_path(), 0700));
    const std::string copy = snapshots_path() + "/" + instance.uuid;
    TRY(remove_file(copy));
    const RootDisk disk = TRY(root_disk(folder));
    auto result = [&]() -> Result<std::unique_ptr<DiskSnapshot>> {
        const uint64_t size = TRY(virtual_size(disk));
        TRY_CONTEXT(copy_disk(instance, folder, disk, copy), "making an image of the disk");
        return FileSnapshot::take(copy, options_.snapshot_image_format, size);
    }();
    (void)remove_file(copy);
    return result;
}

Result<void> KumoiVmmDriver::copy_disk(const Instance& instance, const InstanceFolder& folder,
                                       const RootDisk& disk, const std::string& to) {
    const GuestProcess process = process_of(folder);
    if (TRY(process.is_alive())) {
        const auto still = TRY(freeze_for_snapshot(instance));
        DiskBackup backup;
        backup.target = to;
        backup.format = options_.snapshot_image_format;
        backup.begun = [&still] {
            if (still) {
                still->end();
            }
        };
        auto copied = backup_running_disk(process, backup, options_.backup_timeout_ms);
        if (copied.ok() || TRY(process.is_alive())) {
            return copied;
        }
    }
    return flatten_root_disk(disk, to, options_.snapshot_image_format, options_.disk);
}

// guest.json first: a guest that is started again has the card, whatever becomes of this call.
Result<void> KumoiVmmDriver::attach_interface(const Instance& instance, const VifInfo& vif) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    TRY(write_configs(instance, folder));
    auto attached = TRY(process_of(folder).is_alive()) ? attach_now(folder, vif) : Result<void>();
    if (!attached.ok()) {
        Instance without = instance;
        std::erase_if(without.network_info,
                      [&](const VifInfo& other) { return other.port_id == vif.port_id; });
        (void)write_configs(without, folder);
    }
    return attached;
}

Result<void> KumoiVmmDriver::attach_now(const InstanceFolder& folder, const VifInfo& vif) const {
    const Json config = TRY(Json::parse(TRY(read_file(folder.guest_config()))));
    const std::string id = nic_id(vif);
    const Json* nics = config.find("nics");
    for (size_t i = 0; nics != nullptr && i < nics->size(); ++i) {
        if (nics->as_array()[i].string_or("id") == id) {
            return add_guest_nic(process_of(folder), nics->as_array()[i]);
        }
    }
    return Error::exhausted("The board has no slot for another network card")
        .with_fault("InterfaceAttachFailed");
}

// And last here: what the guest has not released stays its own.
Result<void> KumoiVmmDriver::detach_interface(const Instance& instance, const VifInfo& vif) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    if (TRY(process_of(folder).is_alive())) {
        auto removed = remove_guest_nic(folder.control_socket(), nic_id(vif), options_.detach);
        // A guest that turned itself off meanwhile has let go of everything.
        if (!removed.ok() && TRY(process_of(folder).is_alive())) {
            return removed;
        }
    }
    return write_configs(instance, folder);
}

Result<void> KumoiVmmDriver::rescue(const RescueSpec& spec) {
    const InstanceFolder folder = TRY(existing_folder(spec.instance));
    TRY(stop_guest(spec.instance, folder));
    TRY(remove_rescue(folder));
    TRY(build_rescue(spec, folder));
    return start_guest(spec.instance, folder);
}

Result<void> KumoiVmmDriver::build_rescue(const RescueSpec& spec, const InstanceFolder& folder) {
    Instance rescued = spec.instance;
    rescued.image_id = spec.image.id;
    rescued.image = spec.image;
    const bool has_kernel = !property(spec.image.properties, "kernel_id").empty();
    // An image without one boots with the server's, or by firmware as the server does.
    const bool own_kernel =
        !has_kernel && boot_method(spec.instance.image.properties) == BootMethod::Kernel;
    if (own_kernel) {
        rescued.image.properties["kernel_id"] =
            property(spec.instance.image.properties, "kernel_id");
    }
    TRY(check_guest_supported(rescued));
    const CachedImage root = TRY(fetch_disk_image(spec.context, spec.image));
    const std::string format = TRY(make_root_disk(root, 0, folder.rescue_disk(), options_.disk));
    const std::string ramdisk_id = property(spec.image.properties, "ramdisk_id");
    if (own_kernel) {
        TRY(copy_sparse(folder.kernel(), folder.rescue_kernel()));
        if (path_exists(folder.ramdisk())) {
            TRY(copy_sparse(folder.ramdisk(), folder.rescue_ramdisk()));
        }
    } else if (has_kernel) {
        TRY(fetch_boot_file(spec.context, property(spec.image.properties, "kernel_id"),
                            folder.rescue_kernel()));
        if (!ramdisk_id.empty()) {
            TRY(fetch_boot_file(spec.context, ramdisk_id, folder.rescue_ramdisk()));
        }
    }
    TRY(make_nvram(rescued.image.properties, folder, options_.guest.firmware));
    if (spec.instance.config_drive || options_.force_config_drive) {
        rescued.admin_password = spec.admin_password;
        TRY(write_config_drive({spec.context, rescued, {}}, folder.rescue_config_drive()));
    }
    Json properties = Json::object();
    for (const auto& [key, value] : rescued.image.properties) {
        properties.set(key, value);
    }
    const Json record = Json::object({{"image_id", spec.image.id},
                                      {"disk_format", format},
                                      {"stable_device", wants_stable_device(spec.image)},
                                      {"image_properties", std::move(properties)}});
    return write_file_atomic(folder.rescue(), record.dump_pretty(), 0600);
}

Result<void> KumoiVmmDriver::remove_rescue(const InstanceFolder& folder) const {
    for (const std::string& path :
         {folder.rescue(), folder.rescue_disk(), base_of(folder.rescue_disk()),
          folder.rescue_kernel(), folder.rescue_ramdisk(), folder.rescue_config_drive()}) {
        TRY(remove_file(path));
    }
    return {};
}

Result<void> KumoiVmmDriver::unrescue(const Instance& instance, bool on) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    if (path_exists(folder.rescue())) {
        TRY(stop_guest(instance, folder));
    }
    TRY(remove_rescue(folder));
    return set_power(instance, folder, on);
}

Result<void> KumoiVmmDriver::rebuild(const SpawnRequest& request, bool preserve_ephemeral) {
    const Instance& instance = request.instance;
    TRY(check_guest_supported(instance));
    const InstanceFolder folder = folder_of(instance);
    const InstanceFolder work(options_.instances_path, instance.uuid + "_rebuild");
    // Without the old folder the new one is whole: a crash came between the two.
    if (folder.exists() || !work.exists()) {
        TRY(remove_tree(work.path()));
        auto built = build_folder(request, work);
        if (!built.ok()) {
            (void)remove_tree(work.path());
            return built;
        }
        if (folder.exists()) {
            TRY(stop_guest(instance, folder));
            if (preserve_ephemeral && path_exists(folder.ephemeral())) {
                TRY(rename_to(folder.ephemeral(), work.ephemeral()));
            }
            TRY(remove_tree(folder.path()));
        }
    }
    TRY(rename_to(work.path(), folder.path()));
    return start_guest(instance, folder);
}

Result<void> KumoiVmmDriver::migrate_disk_and_power_off(const Instance& instance,
                                                        const Flavor& new_flavor,
                                                        int64_t timeout_s) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    TRY(check_resize(instance.flavor, new_flavor));
    TRY(power_off(instance, timeout_s));
    return resize_folder::keep_aside(folder);
}

Result<void> KumoiVmmDriver::finish_migration(const Instance& instance, bool on) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    if (TRY(process_of(folder).is_alive())) {  // a crash came after the start
        return set_power(instance, folder, on);
    }
    if (root_volume(TRY(read_volumes(folder))) == nullptr) {
        const uint64_t size = static_cast<uint64_t>(instance.flavor.root_gb) << 30;
        TRY(grow_root_disk(TRY(root_disk(folder)), size, options_.disk));
    }
    TRY(make_extra_disks(instance.flavor, folder));
    return set_power(instance, folder, on);
}

Result<void> KumoiVmmDriver::confirm_migration(const Instance& instance) {
    transfer_.withdraw(instance.uuid);
    return resize_folder::discard(folder_of(instance));
}

Result<void> KumoiVmmDriver::finish_revert_migration(const Instance& instance, bool on) {
    const InstanceFolder folder = folder_of(instance);
    transfer_.withdraw(instance.uuid);
    if (resize_folder::is_kept(folder) && folder.exists()) {
        TRY(stop_guest(instance, folder));
    }
    TRY(resize_folder::restore(folder));
    return set_power(instance, TRY(existing_folder(instance)), on);
}

}  // namespace kumoi::compute
