#include "hypervisor/vmm.h"

#include <fmt/ranges.h>

#include "base/log.h"
#include "hypervisor/block/live/disk_control.h"
#include "hypervisor/board/acpi_tables.h"
#include "hypervisor/board/board_layout.h"
#include "hypervisor/board/pci_layout.h"
#include "hypervisor/boot/boot_loader.h"
#include "hypervisor/disk_ownership.h"
#include "hypervisor/disk_places.h"
#include "hypervisor/firmware/fw_cfg_items.h"
#include "hypervisor/firmware/smbios.h"
#include "hypervisor/kvm/kvm_dirty_log.h"
#include "hypervisor/net/announcement.h"
#include "hypervisor/vcpu/affinity.h"
#include "hypervisor/vcpu/register_dump.h"
#include "hypervisor/vcpu/vcpu_throttle.h"

namespace kumoi::hypervisor {

namespace {

constexpr std::string_view kStateEvents = "state";
// A vCPU leaves KVM_RUN within a millisecond; only a host in deep trouble takes this long.
constexpr int64_t kParkTimeoutNs = 5 * kNanosPerSecond;

SmbiosConfig smbios_config(const VmConfig& config) {
    SmbiosConfig smbios = config.smbios;
    smbios.uuid = config.uuid;
    smbios.memory_bytes = config.memory_bytes();
    smbios.low_memory_bytes = std::min(config.memory_bytes(), kPciHoleStart);
    smbios.vcpus = config.vcpus;
    return smbios;
}

}  // namespace

std::string_view to_string(VmState state) {
    switch (state) {
        case VmState::Created: return "created";
        case VmState::Running: return "running";
        case VmState::Paused: return "paused";
        case VmState::Shutdown: return "shutdown";
        case VmState::Incoming: return "incoming";
        case VmState::Moved: return "moved";
        default: return "crashed";
    }
}

Vmm::Vmm(VmConfig config, Seams seams, Hooks hooks)
    : config_(std::move(config)),
      seams_(seams),
      hooks_(std::move(hooks)),
      guest_events_(seams.loop, seams.clock, hooks_.event),
      guest_reports_(seams.clock) {}

Vmm::~Vmm() {
    throttle_.reset();
    if (dirty_log_) {
        dirty_log_->set_others({});
    }
    for (const auto& vcpu : vcpus_) {  // all at once, then wait: the last one has long been told
        vcpu->request_stop();
    }
    snapshots_.job.reset();  // whoever waits for guest memory must be let go before he is joined
    snapshots_.pages.reset();
    vcpus_.clear();
    if (serial_) {
        serial_->flush();
    }
}

Result<std::unique_ptr<Vmm>> Vmm::create(VmConfig config, Seams seams, Hooks hooks) {
    std::unique_ptr<Vmm> vmm(new Vmm(std::move(config), seams, std::move(hooks)));
    TRY(vmm->create_parts());
    TRY(vmm->load_guest());
    return vmm;
}

// Everything but the guest in its memory.
Result<void> Vmm::create_parts(MachineDevices::DisksOpen disks) {
    TRY(create_machine());
    TRY(create_consoles());
    devices_ = TRY(MachineDevices::create(config_, *platform_, *serial_, seams_.files, seams_.loop,
                                          seams_.clock, device_events(), disks));
    devices_->disks_are_open();
    serial_->set_input([devices = devices_.get()](std::string_view bytes) {
        return devices->receive_serial(bytes);
    });
    create_hotplug();
    create_disk_control();
    TRY(create_vcpus());
    create_throttle();
    return create_firmware();
}

MachineDevices::Events Vmm::device_events() {
    MachineDevices::Events events;
    hotplug_events(events);
    events.device_broken = [this](const std::string& device, const std::string& reason) {
        seams_.loop.post([this, device, reason] {
            log_warn("vmm", "a device stopped", {{"device", device}, {"reason", reason}});
            hooks_.event({"device_broken", Json::object({{"device", device}, {"reason", reason}})});
        });
    };
    events.guest_panicked = [this] { post_once(panic_posted_, [this] { guest_panicked(); }); };
    events.guest_crash_loaded = [this] {
        post_once(crash_loaded_posted_, [this] { guest_crash_loaded(); });
    };
    events.watchdog_expired = [this] { watchdog_expired(); };
    return events;
}

Result<void> Vmm::create_machine() {
    kvm_ = TRY(Kvm::open(seams_.files));
    if (config_.resources.vcpus_max > kvm_->vcpus_max()) {
        return Error::invalid("vcpus: {} were asked for; KVM on this host offers {}",
                              config_.resources.vcpus_max, kvm_->vcpus_max());
    }
    vm_ = TRY(KvmVm::create(*kvm_));
    TRY(create_memory());
    TRY(create_dirty_log());
    uint32_t slot = 0;
    for (const MemoryRegion& region : memory_->regions()) {
        TRY(vm_->add_memory(slot++, region));
    }
    platform_ = std::make_unique<KvmPlatform>(
        *vm_, *memory_,
        KvmPlatform::Requests{
            .reset =
                [this] {
                    post_once(reset_posted_, [this] { guest_reset("the guest asked for it"); });
                },
            .shutdown = [this] { post_once(shutdown_posted_, [this] { guest_shutdown(); }); }});
    return platform_->install_fixed_routes();
}

Result<void> Vmm::create_consoles() {
    std::optional<ConsoleLog> log;
    if (!config_.serial.log.empty()) {
        log = TRY(ConsoleLog::open(seams_.files, config_.serial.log, config_.serial.log_size_max));
    }
    serial_ = std::make_unique<SerialConsole>(seams_.loop, std::move(log));
    if (!config_.serial.socket.empty()) {
        serial_socket_ =
            TRY(ConsoleSocket::listen(seams_.loop, seams_.files, config_.serial.socket, *serial_));
    }
    return {};
}

Result<void> Vmm::create_vcpus() {
    cpuid_ = TRY(build_cpuid(TRY(kvm_->supported_cpuid()), config_.cpu,
                             {.hypercalls_work = Kvm::hypercalls_work()}));
    while (vcpus_.size() < config_.vcpus) {
        TRY(create_vcpu());
    }
    warn_of_unmasked_features(cpuid_for_vcpu(cpuid_, 0, config_.resources.vcpus_max));
    fresh_chips_ = TRY(vm_->chip_state());
    return {};
}

// On some hosts KVM_SET_CPUID2 answers yes and shows the features all the same.
void Vmm::warn_of_unmasked_features(const CpuidTable& asked) {
    if (config_.cpu.mask.empty() && config_.cpu.model == "host") {
        return;
    }
    const auto actual = vcpus_.front()->fd().cpuid();
    if (!actual) {
        return;
    }
    const auto names = unmasked_features(asked, *actual);
    if (!names.empty()) {
        log_warn("vcpu", "KVM shows CPU features that were masked",
                 {{"features", fmt::format("{}", fmt::join(names, " "))}});
    }
}

Vcpu::Events Vmm::vcpu_events() {
    return {
        .crashed =
            [this](CrashReport report) {
                seams_.loop.post([this, report = std::move(report)] { guest_crashed(report); });
            },
        .triple_fault =
            [this] { post_once(reset_posted_, [this] { guest_reset("triple fault"); }); },
        .shutdown = [this] { post_once(shutdown_posted_, [this] { guest_shutdown(); }); },
        .reset =
            [this] {
                post_once(reset_posted_, [this] { guest_reset("the guest asked KVM for it"); });
            },
        .dirty_ring_full = [this](uint32_t vcpu) { return dirty_log_->ring_full(vcpu); },
    };
}

// A guest may hammer the reset port: one request at a time is enough.
void Vmm::post_once(std::atomic<bool>& flag, std::function<void()> function) {
    if (!flag.exchange(true)) {
        seams_.loop.post([&flag, function = std::move(function)] {
            flag = false;
            function();
        });
    }
}

Result<void> Vmm::create_firmware() {
    if (!config_.firmware) {
        return {};
    }
    firmware_ = TRY(Firmware::create(*config_.firmware, *platform_, seams_.files));
    FirmwareItems items;
    items.firmware = *config_.firmware;
    items.vcpus = config_.vcpus;
    items.ram = memory_->regions();
    items.smbios = smbios_config(config_);
    items.uuid = config_.uuid;
    items.boot_order = firmware_boot_order(config_);
    items.memory_end = memory_->hot().size != 0 ? memory_->end() : 0;
    items.acpi = [this] {  // by a vCPU thread: firmware has placed ECAM and BARs by then
        AcpiConfig acpi = acpi_config();
        acpi.ecam_base = devices_->pci().ecam_address();
        acpi.mmio64_end = devices_->pci().highest_bar_end();
        return acpi;
    };
    return add_firmware_items(devices_->fw_cfg(), items);
}

// Nothing: the processor starts at its reset vector, in the firmware.
Result<std::optional<EntryPoint>> Vmm::load_kernel_or_firmware() {
    if (firmware_) {
        TRY(firmware_->install());
        return std::optional<EntryPoint>();
    }
    const std::string tables = TRY(build_acpi_tables(acpi_config(), board::kAcpiStart));
    TRY(memory_->write(board::kAcpiStart, std::as_bytes(std::span(tables))));
    const std::string smbios = TRY(place_smbios(build_smbios(smbios_config(config_)),
                                                board::kSmbiosStart, board::kSmbiosSize));
    TRY(memory_->write(board::kSmbiosStart, std::as_bytes(std::span(smbios))));
    return std::optional(
        TRY(load_boot({config_.boot.kernel, config_.boot.initrd, config_.boot.cmdline}, *memory_,
                      seams_.random, seams_.files)));
}

Result<void> Vmm::load_guest() {
    const std::optional<EntryPoint> entry = TRY(load_kernel_or_firmware());
    for (const auto& vcpu : vcpus_) {
        const bool first = vcpu->index() == 0;
        TRY(apply_reset_state(vcpu->fd(), fresh_vcpus_[vcpu->index()], first));
        if (!entry) {
            TRY(apply_reset_vector(vcpu->fd()));
        } else if (first) {
            TRY(apply_entry_point(vcpu->fd(), *entry));
        }
    }
    return {};
}

void Vmm::set_state(VmState state, std::string_view event, Json data) {
    state_ = state;
    guest_events_.forget(kStateEvents);
    log_info("vmm", event, {{"state", to_string(state)}});
    hooks_.event({std::string(event), std::move(data)});
}

void Vmm::guest_state(VmState state, std::string_view event, Json data) {
    state_ = state;
    if (guest_events_.tell(kStateEvents, {std::string(event), std::move(data)})) {
        log_info("vmm", event, {{"state", to_string(state)}});
    }
}

Result<void> Vmm::start() {
    if (state_ != VmState::Created) {
        return Error::conflict("the machine is {} and was started before", to_string(state_));
    }
    TRY(start_vcpus());
    if (!snapshots_.restored_from.empty()) {  // goes on where it stood, like after a pause
        state_ = VmState::Paused;
        return resume();
    }
    set_state(VmState::Running, "started", Json::object());
    resume_vcpus();
    return {};
}

// Their threads, parked.
Result<void> Vmm::start_vcpus() {
    TRY(Vcpu::install_kick_handler());
    TRY(set_io_affinity(config_.resources.io_affinity));
    for (const auto& vcpu : vcpus_) {
        TRY(start_vcpu(*vcpu));
    }
    started_ns_ = seams_.clock.monotonic_ns();
    return {};
}

Result<void> Vmm::pause_vcpus() {
    for (const auto& vcpu : vcpus_) {
        vcpu->request_pause();
    }
    const int64_t deadline = seams_.clock.monotonic_ns() + kParkTimeoutNs;
    for (const auto& vcpu : vcpus_) {
        if (!vcpu->wait_parked(std::max<int64_t>(deadline - seams_.clock.monotonic_ns(), 0))) {
            if (state_ == VmState::Running) {
                resume_vcpus();
            }
            return Error::timeout("vCPU {} did not stop within {} s", vcpu->index(),
                                  kParkTimeoutNs / kNanosPerSecond);
        }
    }
    return {};
}

void Vmm::resume_vcpus() {
    for (const auto& vcpu : vcpus_) {
        vcpu->resume();
    }
}

Result<void> Vmm::pause() {
    if (state_ == VmState::Paused) {
        return {};
    }
    if (state_ != VmState::Running) {
        return Error::conflict("the machine is {}; only a running one can be paused",
                               to_string(state_));
    }
    TRY(enter_pause());
    set_state(VmState::Paused, "paused", Json::object());
    return {};
}

Result<void> Vmm::enter_pause() {
    TRY(pause_vcpus());
    devices_->pause();
    if (const auto clock = vm_->clock()) {
        paused_clock_ns_ = *clock;
        paused_wall_ns_ = seams_.clock.wall_ns();
    }
    state_ = VmState::Paused;
    return {};
}

Result<void> Vmm::resume() {
    if (state_ == VmState::Running) {
        return {};
    }
    if (state_ != VmState::Paused) {
        return Error::conflict("the machine is {}; only a paused one can be resumed",
                               to_string(state_))
            .with_hint(state_ == VmState::Created ? "start it" : "reset it");
    }
    leave_pause("resumed");
    return {};
}

// An empty event: nobody is told.
void Vmm::leave_pause(std::string_view event) {
    const Arrival arrival = std::exchange(arrival_, {});
    if (arrival.announce) {
        devices_->drop_waiting_frames();  // for a guest that was elsewhere when they came
    }
    if (paused_clock_ns_) {
        if (auto set = vm_->set_clock(clock_to_go_on(arrival)); !set) {
            log_warn("vmm", "the guest's clock could not be put back",
                     {{"error", set.error().text()}});
        }
        paused_clock_ns_.reset();
    }
    snapshots_.memory_missing = false;
    if (snapshots_.pages) {
        snapshots_.pages->retry();
    }
    devices_->resume();
    if (event.empty()) {
        state_ = VmState::Running;
    } else {
        set_state(VmState::Running, event, Json::object());
    }
    resume_vcpus();
    if (arrival.announce) {
        (void)announce();  // it is running
    }
    if (const auto deferred = std::exchange(deferred_, nullptr)) {
        deferred();
    }
}

Result<void> Vmm::reset() {
    if (state_ == VmState::Created) {
        return Error::conflict("the machine has not been started").with_hint("start it");
    }
    TRY(reset_machine());
    crash_ = Json();
    if (state_ == VmState::Paused) {
        set_state(VmState::Paused, "reset",
                  Json::object({{"reason", "the operator asked for it"}}));
        return {};
    }
    set_state(VmState::Running, "reset", Json::object({{"reason", "the operator asked for it"}}));
    resume_vcpus();
    return {};
}

// Everything back to what create() made: chips and vCPUs from the states taken then, RAM empty, the
// kernel loaded again from its file. vCPUs stay parked.
Result<void> Vmm::reset_machine() {
    if (std::exchange(snapshots_.memory_missing, false)) {
        drop_snapshots();  // lets go of vCPUs that wait for it, so that they can park
    }
    TRY(pause_vcpus());
    if (state_ == VmState::Paused) {
        devices_->resume();  // a paused device could not let go of its queues
    }
    TRY(reset_hotplug());
    TRY(devices_->reset());
    if (state_ == VmState::Paused) {
        devices_->pause();
    }
    paused_clock_ns_.reset();
    arrival_ = {};
    deferred_ = nullptr;
    panic_told_ = false;
    crash_loaded_told_ = false;
    drop_snapshots();
    TRY(vm_->set_chip_state(*fresh_chips_));
    TRY(clear_memory());
    return load_guest();
}

void Vmm::guest_reset(std::string reason) {
    if (state_ == VmState::Paused) {  // asked just before the pause
        deferred_ = [this, reason] { guest_reset(reason); };
        return;
    }
    if (state_ != VmState::Running) {
        return;
    }
    if (config_.on_reboot == OnReboot::Exit) {
        if (auto paused = pause_vcpus(); !paused) {
            log_error("vmm", "stopping the vCPUs", {{"error", paused.error().text()}});
        }
        serial_->flush();
        set_state(VmState::Shutdown, "rebooted", Json::object({{"reason", reason}}));
        hooks_.finished(VmExit::Rebooted);
        return;
    }
    if (auto done = reset_machine(); !done) {
        guest_crashed({0, "the reset failed: " + done.error().text(), Json::object()});
        return;
    }
    guest_state(VmState::Running, "reset", Json::object({{"reason", reason}}));
    resume_vcpus();
}

void Vmm::guest_shutdown(std::string reason) {
    if (state_ == VmState::Paused) {
        deferred_ = [this, reason] { guest_shutdown(reason); };
        return;
    }
    if (state_ != VmState::Running) {
        return;
    }
    if (auto paused = pause_vcpus(); !paused) {
        log_error("vmm", "stopping the vCPUs", {{"error", paused.error().text()}});
    }
    devices_->pause();
    devices_->resume();  // drained: what the guest wrote has reached the files
    serial_->flush();
    set_state(VmState::Shutdown, "shutdown", Json::object({{"reason", reason}}));
    if (config_.on_shutdown == OnShutdown::Exit) {
        hooks_.finished(VmExit::Clean);
    }
}

void Vmm::guest_crashed(const CrashReport& report) {
    if (state_ == VmState::Crashed) {
        return;  // one report tells it; the other vCPUs follow from it
    }
    if (auto paused = pause_vcpus(); !paused) {
        log_error("vmm", "stopping the vCPUs", {{"error", paused.error().text()}});
    }
    serial_->flush();
    crash_ = Json::object(
        {{"vcpu", report.vcpu}, {"reason", report.reason}, {"details", report.details}});
    guest_state(VmState::Crashed, "crashed", crash_);
    if (config_.on_crash == OnCrash::Exit) {
        hooks_.finished(VmExit::Crashed);
    } else if (config_.on_crash == OnCrash::Reset) {
        reset_after_crash();
    }
}

void Vmm::reset_after_crash() {
    if (auto done = reset_machine(); !done) {
        log_error("vmm", "the reset after a crash failed", {{"error", done.error().text()}});
        return;
    }
    crash_ = Json();
    guest_state(VmState::Running, "reset", Json::object({{"reason", "the guest crashed"}}));
    resume_vcpus();
}

// The guest's kernel told pvpanic that it died. What it does next (halt, wait, restart) is its own
// business only when the configuration says "continue".
void Vmm::guest_panicked() {
    if (state_ == VmState::Paused) {
        deferred_ = [this] { guest_panicked(); };
        return;
    }
    if (state_ != VmState::Running || std::exchange(panic_told_, true)) {
        return;
    }
    if (guest_events_.tell("guest_panicked", {"guest_panicked", Json::object()})) {
        log_warn("vmm", "the guest's kernel panicked");
    }
    if (config_.on_crash == OnCrash::Continue) {
        return;
    }
    guest_crashed({0, "the guest's kernel panicked", Json::object()});
}

void Vmm::guest_crash_loaded() {
    if (!std::exchange(crash_loaded_told_, true)) {
        if (guest_events_.tell("guest_crash_loaded", {"guest_crash_loaded", Json::object()})) {
            log_warn("vmm", "the guest's kernel panicked and its crash kernel takes over");
        }
    }
}

Result<void> Vmm::power_button() {
    if (state_ != VmState::Running) {
        return Error::conflict("the machine is {}; only a running one sees its power button",
                               to_string(state_));
    }
    const bool heard = devices_->press_power_button();
    hooks_.event({"power_button", Json::object({{"guest_listens", heard}})});
    if (!heard) {
        log_warn("vmm", "the guest has not enabled its power button");
    }
    return {};
}

Result<void> Vmm::nmi() {
    if (state_ != VmState::Running) {
        return Error::conflict("the machine is {}; only a running one takes an NMI",
                               to_string(state_));
    }
    TRY(pause_vcpus());  // KVM_NMI would wait for a vCPU that is in KVM_RUN
    Result<void> done;
    for (const auto& vcpu : vcpus_) {
        const auto state = vcpu->fd().mp_state();
        if (state && state->mp_state != KVM_MP_STATE_UNINITIALIZED) {
            if (auto sent = vcpu->fd().inject_nmi(); !sent) {
                done = std::move(sent);
            }
        }
    }
    resume_vcpus();
    return done;
}

Json Vmm::state_json() const {
    Json json = Json::object({{"state", to_string(state_)},
                              {"name", config_.name},
                              {"uuid", config_.uuid},
                              {"board", config_.board},
                              {"vcpus", config_.vcpus},
                              {"vcpus_max", config_.resources.vcpus_max},
                              {"memory_mib", config_.memory_mib}});
    if (config_.memory.max_mib != 0) {
        json.set("memory", memory_sizes_json());
    }
    if (state_ == VmState::Crashed) {
        json.set("crash", crash_);
    }
    return json;
}

Json Vmm::statistics_json() const {
    Json vcpus = Json::array();
    for (const auto& vcpu : vcpus_) {
        const Vcpu::Statistics& statistics = vcpu->statistics();
        Json exits = Json::object();
        for (uint32_t reason = 0; reason < Vcpu::kExitReasons; ++reason) {
            if (const uint64_t count = statistics.exits[reason].value(); count != 0) {
                exits.set(Vcpu::exit_reason_name(reason), count);
            }
        }
        vcpus.push_back(Json::object({{"index", vcpu->index()},
                                      {"cpu_time_ns", vcpu->cpu_time_ns()},
                                      {"exits", std::move(exits)},
                                      {"interrupted", statistics.interrupted.value()},
                                      {"unclaimed_ports", statistics.unclaimed_ports.value()},
                                      {"unclaimed_mmio", statistics.unclaimed_mmio.value()}}));
    }
    const auto suppressed = static_cast<int64_t>(ReportLimit::suppressed_in_all());
    const int64_t uptime =
        state_ == VmState::Created ? 0 : seams_.clock.monotonic_ns() - started_ns_;
    return Json::object({{"uptime_ns", uptime},
                         {"reports_suppressed", suppressed},
                         {"vcpus", std::move(vcpus)},
                         {"devices", devices_->statistics()},
                         {"console", Json::object({{"dropped_bytes", serial_->dropped_bytes()}})},
                         {"memory", Json::object({{"size_bytes", memory_->boot_size()},
                                                  {"resident_bytes", memory_->resident_bytes()},
                                                  {"source", snapshots_.memory_json()}})}});
}

Result<Json> Vmm::dump_json() {
    const bool running = state_ == VmState::Running;
    TRY(pause_vcpus());
    Json vcpus = Json::array();
    for (const auto& vcpu : vcpus_) {
        Json dump = register_dump(vcpu->fd(), *memory_);
        dump.set("index", vcpu->index());
        vcpus.push_back(std::move(dump));
    }
    if (running) {
        resume_vcpus();
    }
    return Json::object({{"state", to_string(state_)}, {"vcpus", std::move(vcpus)}});
}

}  // namespace kumoi::hypervisor
