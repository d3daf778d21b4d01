#include "compute/driver/simulated_driver.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "compute/driver/console_tail.h"
#include "compute/driver/resize_rules.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr size_t kConsoleMax = 64 << 10;  // bytes kept of each guest's console

Error not_here(const Instance& instance) {
    return Error::not_found("Server {} has no guest on this host", instance.uuid)
        .with_fault("InstanceNotFound");
}

// The smallest thing that is a disk image: what matters is the way it takes.
class SimulatedDisk final : public DiskSnapshot {
public:
    explicit SimulatedDisk(const Instance& instance)
        : text_(fmt::format("simulated disk of server {}\n", instance.uuid)),
          virtual_size_(static_cast<uint64_t>(instance.flavor.root_gb) << 30) {}
    std::string disk_format() const override { return "raw"; }
    uint64_t virtual_size() const override { return virtual_size_; }
    Result<size_t> read(std::span<std::byte> buffer, uint64_t offset) override {
        const auto bytes = std::as_bytes(std::span(text_));
        if (offset >= bytes.size()) {
            return size_t{0};
        }
        const size_t count = std::min<size_t>(buffer.size(), bytes.size() - offset);
        std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), count, buffer.begin());
        return count;
    }

private:
    const std::string text_;
    const uint64_t virtual_size_;
};

}  // namespace

SimulatedOptions SimulatedOptions::from_config(const Config& config) {
    SimulatedOptions options;
    options.vcpus = config.integer("simulated", "vcpus");
    options.memory_mb = config.integer("simulated", "memory_mb");
    options.local_gb = config.integer("simulated", "local_gb");
    options.spawn_delay_ms = config.integer("simulated", "spawn_delay_ms");
    options.operation_delay_ms = config.integer("simulated", "operation_delay_ms");
    options.failure_rate = config.floating("simulated", "failure_rate");
    options.migration_bandwidth_mib_s = config.integer("simulated", "migration_bandwidth");
    options.dirty_rate_mib_s = config.integer("simulated", "dirty_rate");
    options.migration_failure_rate = config.floating("simulated", "migration_failure_rate");
    options.shared_storage = config.boolean("simulated", "shared_storage");
    return options;
}

SimulatedDriver::SimulatedDriver(SimulatedOptions options, const Clock& clock, Random& random,
                                 Sleep sleep)
    : options_(options), clock_(clock), random_(random), sleep_(std::move(sleep)) {}

Result<void> SimulatedDriver::init_host(const std::string&) {
    return {};
}

void SimulatedDriver::set_event_listener(std::function<void(const LifecycleEvent&)> listener) {
    const std::lock_guard lock(mutex_);
    listener_ = std::move(listener);
}

// As if the guests had lived on: those that were still being built had not begun to.
void SimulatedDriver::recall_guests(const std::vector<Instance>& instances) {
    const std::lock_guard lock(mutex_);
    for (const Instance& instance : instances) {
        const bool is_off = instance.power_state == power_states::kNoState;
        if (is_off || instance.vm_state == vm_states::kBuilding ||
            instance.vm_state == vm_states::kShelvedOffloaded) {
            continue;
        }
        const auto [guest, is_new] = guests_.try_emplace(instance.uuid);
        if (is_new) {
            start(guest->second, instance, clock_.monotonic_ns());
            guest->second.power_state = instance.power_state;
            guest->second.suspended = instance.vm_state == vm_states::kSuspended;
        }
    }
}

Result<void> SimulatedDriver::spawn(const SpawnRequest& request) {
    delay(options_.spawn_delay_ms);
    constexpr uint64_t kMillion = 1'000'000;
    if (static_cast<double>(random_.below(kMillion)) < options_.failure_rate * kMillion) {
        return Error::unavailable("The simulated driver was told to fail {:.1f} % of spawns",
                                  options_.failure_rate * 100)
            .with_hint("Set [simulated] failure_rate to 0.");
    }
    const std::lock_guard lock(mutex_);
    const auto [guest, is_new] = guests_.try_emplace(request.instance.uuid);
    if (!is_new) {
        return Error::conflict("Server {} exists on this host already", request.instance.uuid);
    }
    start(guest->second, request.instance, clock_.monotonic_ns());
    return {};
}

Result<void> SimulatedDriver::destroy(const Instance& instance) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    guests_.erase(instance.uuid);
    gone_.erase(instance.uuid);
    return {};
}

Result<void> SimulatedDriver::power_on(const Instance& instance) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    Guest& guest = guests_[instance.uuid];  // made again when this process was restarted
    if (guest.power_state != power_states::kRunning) {
        start(guest, instance, clock_.monotonic_ns());
    }
    return {};
}

Result<void> SimulatedDriver::power_off(const Instance& instance, int64_t) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    guests_[instance.uuid].power_state = power_states::kShutdown;
    return {};
}

Result<void> SimulatedDriver::reboot(const Instance& instance, RebootType) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    start(guests_[instance.uuid], instance, clock_.monotonic_ns());
    return {};
}

Result<void> SimulatedDriver::pause(const Instance& instance) {
    return set_power(instance, power_states::kRunning, power_states::kPaused, "paused");
}

Result<void> SimulatedDriver::unpause(const Instance& instance) {
    return set_power(instance, power_states::kPaused, power_states::kRunning, "unpaused");
}

Result<void> SimulatedDriver::set_power(const Instance& instance, int from, int to,
                                        std::string_view verb) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    const auto guest = guests_.find(instance.uuid);
    if (guest == guests_.end()) {
        return not_here(instance);
    }
    if (guest->second.power_state != from && guest->second.power_state != to) {
        return Error::conflict("Server {} cannot be {} in power state {}", instance.uuid, verb,
                               guest->second.power_state)
            .with_fault("InstanceInvalidState");
    }
    guest->second.power_state = to;
    return {};
}

Result<void> SimulatedDriver::suspend(const Instance& instance) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    const auto guest = guests_.find(instance.uuid);
    if (guest == guests_.end()) {
        return not_here(instance);
    }
    guest->second.suspended = true;
    guest->second.power_state = power_states::kShutdown;
    return {};
}

Result<void> SimulatedDriver::resume(const Instance& instance) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    const auto guest = guests_.find(instance.uuid);
    if (guest == guests_.end()) {
        return not_here(instance);
    }
    if (!guest->second.suspended && guest->second.power_state != power_states::kRunning) {
        return Error::conflict("Server {} has no saved state to resume from", instance.uuid)
            .with_hint("Reboot it hard.");
    }
    guest->second.suspended = false;
    guest->second.power_state = power_states::kRunning;
    return {};
}

Result<std::unique_ptr<DiskSnapshot>> SimulatedDriver::snapshot(const Instance& instance) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    if (!guests_.contains(instance.uuid)) {
        return not_here(instance);
    }
    return std::unique_ptr<DiskSnapshot>(std::make_unique<SimulatedDisk>(instance));
}

Result<void> SimulatedDriver::rescue(const RescueSpec& spec) {
    return set_running(spec.instance, true);
}

Result<void> SimulatedDriver::unrescue(const Instance& instance, bool power_on) {
    return set_running(instance, power_on);
}

Result<void> SimulatedDriver::rebuild(const SpawnRequest& request, bool) {
    delay(options_.spawn_delay_ms);
    return set_running(request.instance, true);
}

Result<void> SimulatedDriver::migrate_disk_and_power_off(const Instance& instance,
                                                         const Flavor& new_flavor, int64_t) {
    TRY(check_resize(instance.flavor, new_flavor));
    return set_running(instance, false);
}

Result<void> SimulatedDriver::finish_migration(const Instance& instance, bool power_on) {
    return set_running(instance, power_on);
}

Result<void> SimulatedDriver::confirm_migration(const Instance&) {
    delay(options_.operation_delay_ms);
    return {};
}

Result<void> SimulatedDriver::finish_revert_migration(const Instance& instance, bool power_on) {
    return set_running(instance, power_on);
}

// As instance.flavor says, made again when this process was restarted.
Result<void> SimulatedDriver::set_running(const Instance& instance, bool power_on) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    Guest& guest = guests_[instance.uuid];
    start(guest, instance, clock_.monotonic_ns());
    guest.power_state = power_on ? power_states::kRunning : power_states::kShutdown;
    return {};
}

Result<void> SimulatedDriver::attach_interface(const Instance& instance, const VifInfo& vif) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    const auto guest = guests_.find(instance.uuid);
    if (guest == guests_.end()) {
        return not_here(instance);
    }
    auto& macs = guest->second.macs;
    if (std::find(macs.begin(), macs.end(), vif.mac) == macs.end()) {
        macs.push_back(vif.mac);
    }
    return {};
}

Result<void> SimulatedDriver::detach_interface(const Instance& instance, const VifInfo& vif) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    const auto guest = guests_.find(instance.uuid);
    if (guest == guests_.end()) {
        return not_here(instance);
    }
    std::erase(guest->second.macs, vif.mac);
    return {};
}

// Nothing of a volume shows in a simulated guest.
Result<void> SimulatedDriver::set_volumes(const Instance& /*instance*/,
                                          const std::vector<VolumeDisk>& /*volumes*/) {
    return {};
}

Result<void> SimulatedDriver::attach_volume(const Instance& instance,
                                            const VolumeDisk& /*volume*/) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    return guests_.contains(instance.uuid) ? Result<void>() : Result<void>(not_here(instance));
}

Result<void> SimulatedDriver::detach_volume(const Instance& /*instance*/,
                                            const std::string& /*volume_id*/) {
    delay(options_.operation_delay_ms);
    return {};
}

Result<void> SimulatedDriver::reconnect_volume(const Instance& /*instance*/,
                                               const std::string& /*volume_id*/) {
    return {};
}

Result<void> SimulatedDriver::rename_volume(const Instance& /*instance*/,
                                            const std::string& /*volume_id*/,
                                            const std::string& /*new_volume_id*/) {
    return {};
}

Result<InstanceInfo> SimulatedDriver::get_info(const Instance& instance) {
    const std::lock_guard lock(mutex_);
    const auto guest = guests_.find(instance.uuid);
    if (guest == guests_.end()) {
        return not_here(instance);
    }
    InstanceInfo info;
    info.power_state = guest->second.power_state;
    if (info.power_state == power_states::kRunning) {
        info.cpu_time_ns = clock_.monotonic_ns() - guest->second.started_ns;
    }
    return info;
}

Result<std::vector<std::string>> SimulatedDriver::list_instance_uuids() {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> uuids;
    for (const auto& [uuid, guest] : guests_) {
        uuids.push_back(uuid);
    }
    std::sort(uuids.begin(), uuids.end());
    return uuids;
}

// As Nova's fake driver: an address where nobody listens.
Result<std::string> SimulatedDriver::get_vnc_console(const Instance& instance) {
    const std::lock_guard lock(mutex_);
    if (!guests_.contains(instance.uuid)) {
        return not_here(instance);
    }
    return "/nonexistent/" + instance.uuid + "/vnc.sock";
}

Result<std::string> SimulatedDriver::get_serial_console(const Instance& instance) {
    const std::lock_guard lock(mutex_);
    if (!guests_.contains(instance.uuid)) {
        return not_here(instance);
    }
    return "/nonexistent/" + instance.uuid + "/console.sock";
}

Result<std::string> SimulatedDriver::get_console_output(const Instance& instance,
                                                        int64_t tail_lines) {
    const std::lock_guard lock(mutex_);
    const auto guest = guests_.find(instance.uuid);
    if (guest == guests_.end()) {
        return not_here(instance);
    }
    return last_lines(guest->second.console, tail_lines);
}

Result<Json> SimulatedDriver::get_instance_diagnostics(const Instance& instance) {
    const std::lock_guard lock(mutex_);
    const auto found = guests_.find(instance.uuid);
    if (found == guests_.end()) {
        return not_here(instance);
    }
    const Guest& guest = found->second;
    const int64_t uptime_ns = clock_.monotonic_ns() - guest.started_ns;
    Json cpus = Json::array();
    for (int64_t cpu = 0; cpu < guest.vcpus; ++cpu) {
        cpus.push_back(Json::object({{"id", cpu}, {"time", uptime_ns}, {"utilisation", Json()}}));
    }
    Json nics = Json::array();
    for (const std::string& mac : guest.macs) {
        nics.push_back(Json::object({{"mac_address", mac}}));
    }
    return Json::object(
        {{"state", guest.power_state == power_states::kRunning ? "running" : "paused"},
         {"driver", "libvirt"},
         {"hypervisor", "kumoi-simulated"},
         {"hypervisor_os", "linux"},
         {"uptime", uptime_ns / kNanosPerSecond},
         {"config_drive", instance.config_drive},
         {"num_cpus", guest.vcpus},
         {"num_nics", static_cast<int64_t>(guest.macs.size())},
         {"num_disks", 1},
         {"cpu_details", std::move(cpus)},
         {"nic_details", std::move(nics)},
         {"disk_details", Json::array()},
         {"memory_details", Json::object({{"maximum", guest.memory_mb}, {"used", Json()}})}});
}

Result<HostResources> SimulatedDriver::get_available_resource() {
    const std::lock_guard lock(mutex_);
    HostResources resources;
    resources.vcpus = options_.vcpus;
    resources.memory_mb = options_.memory_mb;
    resources.local_gb = options_.local_gb;
    resources.local_gb_free = options_.local_gb;
    for (const auto& [uuid, guest] : guests_) {
        resources.memory_mb_used += guest.memory_mb;
        resources.local_gb_free -= guest.root_gb;
    }
    resources.cpu_info_json =
        Json::object({{"arch", "x86_64"},
                      {"model", "simulated"},
                      {"vendor", "kumoi"},
                      {"topology",
                       Json::object({{"sockets", 1}, {"cores", options_.vcpus}, {"threads", 1}})},
                      {"features", Json::array()}})
            .dump();
    return resources;
}

void SimulatedDriver::guest_event(const std::string& uuid, LifecycleEvent::Kind kind,
                                  const std::string& detail) {
    std::function<void(const LifecycleEvent&)> listener;
    {
        const std::lock_guard lock(mutex_);
        const auto guest = guests_.find(uuid);
        if (guest != guests_.end() && kind == LifecycleEvent::Kind::Stopped) {
            guest->second.power_state = power_states::kShutdown;
        }
        if (guest != guests_.end() && kind == LifecycleEvent::Kind::Crashed) {
            guest->second.power_state = power_states::kCrashed;
        }
        listener = listener_;
    }
    if (listener) {
        listener({uuid, kind, detail});
    }
}

void SimulatedDriver::delay(int64_t milliseconds) const {
    if (milliseconds <= 0) {
        return;
    }
    if (sleep_) {
        sleep_(milliseconds * kNanosPerMilli);
        return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

void SimulatedDriver::start(Guest& guest, const Instance& instance, int64_t now_ns) {
    guest.power_state = power_states::kRunning;
    guest.suspended = false;
    guest.started_ns = now_ns;
    guest.memory_mb = instance.flavor.memory_mb;
    guest.root_gb = instance.flavor.root_gb;
    guest.vcpus = instance.flavor.vcpus;
    guest.macs.clear();
    for (const VifInfo& vif : instance.network_info) {
        guest.macs.push_back(vif.mac);
    }
    if (guest.console.size() < kConsoleMax) {
        guest.console += fmt::format("simulated guest {} booted\n{} login: \n", instance.uuid,
                                     instance.hostname);
    }
}

}  // namespace kumoi::compute
