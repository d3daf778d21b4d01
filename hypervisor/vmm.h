// Vmm: one machine: memory, chips, devices and vCPUs assembled from a VmConfig, and the verbs an
// operator has over it.
//
// States: created -> running <-> paused; running -> shutdown (the guest turned itself off) or
// crashed; reset() leads from any of them but created back to running (or paused). A machine made
// for a guest that comes from elsewhere is incoming until it runs; one whose guest went elsewhere
// has moved, which is its end. The guest can
// lead to shutdown and crashed and to nothing else: it never ends the process, the owner of the Vmm
// does. Threading: everything here runs on the loop's thread; requests from vCPU threads arrive by
// loop.post(). Events go out through Hooks::event, on the loop's thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/json.h"
#include "base/random.h"
#include "hypervisor/board/acpi_tables.h"
#include "hypervisor/console/console_socket.h"
#include "hypervisor/console/serial_console.h"
#include "hypervisor/control/guest_events.h"
#include "hypervisor/control/protocol.h"
#include "hypervisor/firmware/firmware.h"
#include "hypervisor/hotplug/device_hotplug.h"
#include "hypervisor/hotplug/hotplug_control.h"
#include "hypervisor/kvm/kvm.h"
#include "hypervisor/kvm/kvm_platform.h"
#include "hypervisor/vcpu/vcpu.h"
#include "hypervisor/vcpu/vcpu_state.h"
#include "hypervisor/vm_config.h"
#include "hypervisor/vmm_devices.h"
#include "hypervisor/vmm_snapshot.h"

namespace kumoi::hypervisor {

class DirtyLog;
class Announcement;
class DiskControl;
class DiskOwnership;
class KvmDirtyLog;
class VcpuThrottle;

enum class VmState { Created, Running, Paused, Shutdown, Crashed, Incoming, Moved };
std::string_view to_string(VmState state);

// Why the process should end, as its exit code (docs/reference/vmm-control.md).
enum class VmExit : int { Clean = 0, Failed = 1, Usage = 2, Crashed = 3, Rebooted = 4 };

class Vmm {
public:
    struct Hooks {
        std::function<void(const ControlEvent&)> event;
        std::function<void(VmExit)> finished;  // the configuration says: end the process now
    };
    struct Seams {
        EventLoop& loop;
        const Clock& clock;
        Random& random;
        FileSource& files;  // where everything on the host comes from
    };

    // Refuses before anything of the guest has run; nothing is left behind then.
    static Result<std::unique_ptr<Vmm>> create(VmConfig config, Seams seams, Hooks hooks);
    // A machine as it was when the snapshot was taken, not started: start() lets it go on.
    static Result<std::unique_ptr<Vmm>> restore(RestoreRequest request, Seams seams, Hooks hooks);
    // A machine without a guest, which a MigrationPort fills (vmm_migration.h).
    static Result<std::unique_ptr<Vmm>> incoming(VmConfig config, Seams seams, Hooks hooks);
    ~Vmm();
    Vmm(const Vmm&) = delete;
    Vmm& operator=(const Vmm&) = delete;

    Result<void> start();
    Result<void> pause();
    Result<void> resume();
    Result<void> reset();
    Result<void> power_button();
    Result<void> nmi();
    // Returns when the save has begun; the event save_done or save_failed tells its end.
    Result<Json> save(const SaveRequest& request);
    Result<void> save_cancel();
    Json save_json() const { return snapshots_.save_json(); }
    // What the balloon shall take from the guest; refused without a balloon.
    Result<void> set_balloon(uint64_t mib);
    Result<Json> balloon_json();  // and asks the guest for new statistics
    Result<void> announce();      // the guest's network drivers tell where they are

    VmState state() const { return state_; }
    const VmConfig& config() const { return config_; }
    SerialConsole& serial() { return *serial_; }
    HotplugControl& hotplug() { return *hotplug_; }
    Json state_json() const;
    Json statistics_json() const;
    Result<Json> set_disk_limits(const Json& params);
    Result<Json> set_nic_limits(const Json& params);
    Result<Json> set_memory(const Json& params);
    Result<Json> resize_disk(const Json& params);
    DiskControl& disk_control() { return *disk_control_; }
    DiskOwnership& disk_ownership() { return *disk_ownership_; }
    GuestMemory& memory() { return *memory_; }
    DirtyLog& dirty_log();  // vmm_memory.cc
    VcpuThrottle& throttle() { return *throttle_; }
    Result<Json> dump_json();

private:
    friend class MigrationPort;
    // The guest came from another host: what is due when it first runs here.
    struct Arrival {
        bool announce = false;
        std::optional<int64_t> clock_since_ns;  // wall time of paused_clock_ns_, to be caught up
    };
    Vmm(VmConfig config, Seams seams, Hooks hooks);
    Result<void> create_parts(MachineDevices::DisksOpen disks = MachineDevices::DisksOpen::Now);
    Result<void> create_machine();
    Result<void> create_memory();  // vmm_memory.cc
    Result<void> create_dirty_log();
    Result<void> choose_data_paths();
    void create_throttle();
    Result<void> clear_memory();
    Json memory_sizes_json() const;
    Result<void> create_vcpus();
    // vmm_hotplug.cc
    AcpiConfig acpi_config() const;
    void create_hotplug();
    void create_disk_control();  // vmm_disks.cc
    Result<void> with_disk_still(const std::string& id, const std::function<Result<void>()>& run);
    void disk_moved(const std::string& id, const std::string& path);
    void hotplug_events(MachineDevices::Events& events);
    void forget_tap(const std::string& device);
    Result<void> create_vcpu();
    Result<void> start_vcpu(Vcpu& vcpu);
    Result<void> plug_vcpu(uint32_t index);
    void set_vcpus(uint32_t count, int64_t timeout_ms, DeviceHotplug::Answer answer);
    void vcpu_change_timed_out();
    void vcpu_ejected(uint32_t cpu);
    Result<void> with_vcpus_parked(const std::function<Result<void>()>& run);
    Result<void> reset_hotplug();

    void warn_of_unmasked_features(const CpuidTable& asked);
    Vcpu::Events vcpu_events();
    Result<void> create_consoles();
    Result<void> create_firmware();
    Result<void> load_guest();
    Result<std::optional<EntryPoint>> load_kernel_or_firmware();
    uint64_t clock_to_go_on(const Arrival& arrival) const;  // vmm_device_verbs.cc
    Result<void> pause_vcpus();
    void resume_vcpus();
    Result<void> enter_pause();  // nobody is told
    void leave_pause(std::string_view event);
    Result<void> start_vcpus();
    Result<void> reset_machine();
    void guest_reset(std::string reason);
    void guest_shutdown(std::string reason = "the guest powered off");
    void guest_crashed(const CrashReport& report);
    void reset_after_crash();
    void guest_panicked();
    void guest_crash_loaded();
    void watchdog_expired();
    void watchdog_acts();
    MachineDevices::Events device_events();
    void post_once(std::atomic<bool>& flag, std::function<void()> function);
    Snapshottable* nvram();
    Result<void> stop_for_a_moment();
    void go_on();
    Result<std::vector<SectionWriter>> take_state(SaveJob& job, OverlaySet& overlays);
    Result<void> may_save(const SaveRequest& request) const;
    Result<void> start_saving(SaveJob& job, std::vector<SectionWriter> sections,
                              const SaveRequest& request);
    void save_finished(const Result<void>& result);
    void drop_snapshots();
    Result<void> load_snapshot(std::unique_ptr<SnapshotReader> reader,
                               const RestoreRequest& request);
    Result<void> serve_pages(std::unique_ptr<SnapshotReader> reader, const std::string& path);
    bool memory_on_demand_works() const;
    void post_alive(std::function<void()> function);
    void memory_loaded();
    void memory_failed(const Error& error);
    void set_state(VmState state, std::string_view event, Json data);
    // The same where the guest is the cause, as often as it likes.
    void guest_state(VmState state, std::string_view event, Json data);

    VmConfig config_;
    Seams seams_;
    Hooks hooks_;
    GuestEvents guest_events_;
    ReportLimit guest_reports_;  // of what the host fails to do for the guest
    VmState state_ = VmState::Created;
    Json crash_;  // the last report
    int64_t started_ns_ = 0;
    std::atomic<bool> reset_posted_{false};
    std::atomic<bool> shutdown_posted_{false};
    std::atomic<bool> panic_posted_{false};
    std::atomic<bool> crash_loaded_posted_{false};
    std::atomic<bool> memory_posted_{false};
    bool panic_told_ = false;  // once a boot: a guest may write the register in a loop
    bool crash_loaded_told_ = false;
    std::optional<uint64_t> paused_clock_ns_;
    int64_t paused_wall_ns_ = 0;  // when paused_clock_ns_ was read
    Arrival arrival_;
    std::function<void()> deferred_;  // what the guest asked for just before a pause
    // Order matters: each may be used by what follows until it is destroyed.
    std::optional<Kvm> kvm_;
    std::optional<GuestMemory> memory_;
    std::optional<KvmVm> vm_;
    std::unique_ptr<KvmDirtyLog> dirty_log_;
    std::optional<KvmChipState> fresh_chips_;
    std::unique_ptr<KvmPlatform> platform_;
    std::unique_ptr<SerialConsole> serial_;
    std::unique_ptr<ConsoleSocket> serial_socket_;
    std::unique_ptr<MachineDevices> devices_;
    std::unique_ptr<Firmware> firmware_;  // null: direct boot
    std::unique_ptr<DeviceHotplug> device_hotplug_;
    std::unique_ptr<HotplugControl> hotplug_;
    std::unique_ptr<Announcement> announcement_;
    std::unique_ptr<DiskControl> disk_control_;
    std::unique_ptr<DiskOwnership> disk_ownership_;
    struct {
        DeviceHotplug::Answer answer;  // empty: no vCPU is asked to go
        uint32_t target = 0;
        EventLoop::TimerId timer = 0;
    } vcpu_change_;
    CpuidTable cpuid_;  // before what differs between vCPUs
    std::vector<VcpuResetState> fresh_vcpus_;
    std::vector<std::unique_ptr<Vcpu>> vcpus_;
    std::unique_ptr<VcpuThrottle> throttle_;
    VmmSnapshots snapshots_;
    std::shared_ptr<int> life_ = std::make_shared<int>();  // shared: weakly, with posted functions
};

}  // namespace kumoi::hypervisor
