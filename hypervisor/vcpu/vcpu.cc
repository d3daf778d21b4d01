#include "hypervisor/vcpu/vcpu.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <ctime>
#include <system_error>

#include <pthread.h>

#include "base/log.h"
#include "hypervisor/sandbox/thread_class.h"
#include "hypervisor/vcpu/affinity.h"
#include "hypervisor/vcpu/register_dump.h"

namespace kumoi::hypervisor {

namespace {

constexpr int kKickSignal = SIGUSR1;
extern "C" void vcpu_kick_handler(int /*signal*/) {}  // its arrival is the message

constexpr const char* kExitNames[] = {
    "unknown",
    "exception",
    "io",
    "hypercall",
    "debug",
    "hlt",
    "mmio",
    "irq_window",
    "shutdown",
    "fail_entry",
    "intr",
    "set_tpr",
    "tpr_access",
    "s390_sieic",
    "s390_reset",
    "dcr",
    "nmi",
    "internal_error",
    "osi",
    "papr_hcall",
    "s390_ucontrol",
    "watchdog",
    "s390_tsch",
    "epr",
    "system_event",
    "s390_stsi",
    "ioapic_eoi",
    "hyperv",
    "arm_nisv",
    "x86_rdmsr",
    "x86_wrmsr",
    "dirty_ring_full",
    "ap_reset_hold",
    "x86_bus_lock",
    "xen",
    "riscv_sbi",
    "riscv_csr",
    "notify",
};

}  // namespace

Vcpu::Vcpu(uint32_t index, VcpuFd fd, IoBus& ports, IoBus& mmio, const GuestMemory& memory,
           Events events)
    : index_(index),
      fd_(std::move(fd)),
      ports_(ports),
      mmio_(mmio),
      memory_(memory),
      events_(std::move(events)) {}

Vcpu::~Vcpu() {
    request_stop();
    join();
}

Result<void> Vcpu::install_kick_handler() {
    struct sigaction action {};
    action.sa_handler = vcpu_kick_handler;  // no SA_RESTART: KVM_RUN must return EINTR
    sigemptyset(&action.sa_mask);
    if (sigaction(kKickSignal, &action, nullptr) != 0) {
        return Error::from_errno(errno, "installing the vCPU kick signal");
    }
    return {};
}

// Every signal but the kick belongs to the main thread; the mask is inherited, so it is set here
// around the creation.
Result<void> Vcpu::start() {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    sigdelset(&all, kKickSignal);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const std::lock_guard lock(mutex_);
    KUMOI_ASSERT(!started_);
    try {
        thread_ = start_thread(ThreadClass::Vcpu, [this] { thread_main(); });
        started_ = true;
    } catch (const std::system_error& error) {
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        return Error::exhausted("cannot start the thread of vCPU {}: {}", index_, error.what());
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return {};
}

void Vcpu::resume() {
    {
        const std::lock_guard lock(mutex_);
        if (!plugged_) {
            return;
        }
        pause_wanted_ = false;
        attention_ = stop_wanted_;
        fd_.set_immediate_exit(stop_wanted_);
    }
    changed_.notify_all();
}

void Vcpu::set_plugged(bool plugged) {
    const std::lock_guard lock(mutex_);
    plugged_ = plugged;
}

bool Vcpu::plugged() const {
    const std::lock_guard lock(mutex_);
    return plugged_;
}

Result<void> Vcpu::set_affinity(const CpuList& cpus) {
    const std::lock_guard lock(mutex_);
    return set_thread_affinity(thread_.native_handle(), cpus);
}

void Vcpu::request_pause() {
    const std::lock_guard lock(mutex_);
    pause_wanted_ = true;
    attention_ = true;
    fd_.set_immediate_exit(true);
    if (started_ && !parked_) {
        pthread_kill(thread_.native_handle(), kKickSignal);
        changed_.notify_all();  // it may be resting
    }
}

void Vcpu::rest(int64_t nanoseconds) {
    const std::lock_guard lock(mutex_);
    if (!started_ || parked_ || pause_wanted_ || stop_wanted_) {
        return;
    }
    rest_ns_ = nanoseconds;
    attention_ = true;
    fd_.set_immediate_exit(true);
    pthread_kill(thread_.native_handle(), kKickSignal);
}

bool Vcpu::wait_parked(int64_t timeout_ns) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::nanoseconds(timeout_ns),
                             [this] { return parked_ || !started_; });
}

void Vcpu::request_stop() {
    {
        const std::lock_guard lock(mutex_);
        stop_wanted_ = true;
        attention_ = true;
        fd_.set_immediate_exit(true);
        if (started_ && !parked_) {
            pthread_kill(thread_.native_handle(), kKickSignal);
        }
    }
    changed_.notify_all();
}

void Vcpu::join() {
    if (thread_.joinable()) {
        thread_.join();
        const std::lock_guard lock(mutex_);
        started_ = false;
    }
}

int64_t Vcpu::cpu_time_ns() const {
    const std::lock_guard lock(mutex_);
    clockid_t clock = 0;
    timespec time{};
    // pthread_getcpuclockid() does not change the thread; its parameter is just not const.
    auto& thread = const_cast<std::thread&>(thread_);
    if (!started_ || pthread_getcpuclockid(thread.native_handle(), &clock) != 0 ||
        clock_gettime(clock, &time) != 0) {
        return 0;
    }
    constexpr int64_t kNanos = 1'000'000'000;
    return time.tv_sec * kNanos + time.tv_nsec;
}

void Vcpu::thread_main() {
    pthread_setname_np(pthread_self(), fmt::format("vcpu{}", index_).c_str());
    for (;;) {
        if (attention_.load(std::memory_order_acquire) && !park_if_asked()) {
            return;
        }
        const int error = fd_.run();
        io_pending_ = false;  // KVM takes our answers on entry, whatever comes next
        if (error == 0) {
            handle_exit();
        } else {
            handle_run_error(error);
        }
    }
}

bool Vcpu::park_if_asked() {
    finish_pending_io();
    std::unique_lock lock(mutex_);
    rest_if_asked(lock);
    if (!pause_wanted_ && !stop_wanted_) {
        attention_ = false;
        fd_.set_immediate_exit(false);
        return true;
    }
    parked_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return stop_wanted_ || !pause_wanted_; });
    parked_ = false;
    return !stop_wanted_;
}

void Vcpu::rest_if_asked(std::unique_lock<std::mutex>& lock) {
    const auto rest = std::chrono::nanoseconds(rest_ns_);
    rest_ns_ = 0;
    if (rest.count() == 0 || pause_wanted_ || stop_wanted_) {
        return;
    }
    const auto begin = std::chrono::steady_clock::now();
    changed_.wait_for(lock, rest, [this] { return stop_wanted_ || pause_wanted_; });
    rest_ns_ = 0;  // asked again meanwhile: it has had it
    const auto rested = std::chrono::steady_clock::now() - begin;
    statistics_.rested_ns.increment(
        static_cast<uint64_t>(std::chrono::nanoseconds(rested).count()));
}

// A read that we answered reaches the guest's registers only at the next KVM_RUN (api.rst §5): with
// immediate_exit set that is all it does, and the registers are then whole.
void Vcpu::finish_pending_io() {
    if (!io_pending_) {
        return;
    }
    fd_.set_immediate_exit(true);
    fd_.run();
    io_pending_ = false;
}

void Vcpu::stay_parked() {
    const std::lock_guard lock(mutex_);
    pause_wanted_ = true;
    attention_ = true;
    fd_.set_immediate_exit(true);
}

void Vcpu::handle_run_error(int error) {
    if (error == EINTR) {
        statistics_.interrupted.increment();
        return;
    }
    if (error == EAGAIN) {
        return;  // an application processor whose INIT or SIPI has just been taken
    }
    crash(fmt::format("KVM_RUN failed: {}", std::strerror(error)), Json::object());
}

void Vcpu::handle_exit() {
    kvm_run& run = fd_.shared();
    const uint32_t reason = run.exit_reason;
    statistics_.exits[std::min<size_t>(reason, kExitReasons - 1)].increment();
    if (handle_io_exit(run) || handle_guest_ends(run)) {
        return;
    }
    switch (reason) {
        case KVM_EXIT_INTR:
        case KVM_EXIT_IRQ_WINDOW_OPEN:
        case KVM_EXIT_NMI:
        case KVM_EXIT_SET_TPR:
        case KVM_EXIT_TPR_ACCESS:
        case KVM_EXIT_X86_BUS_LOCK:
        case KVM_EXIT_IOAPIC_EOI: return;  // nothing is owed: the chips are KVM's
        case KVM_EXIT_HLT: return;         // KVM waits itself with its own LAPIC; run again
        case KVM_EXIT_HYPERCALL: run.hypercall.ret = static_cast<uint64_t>(-ENOSYS); return;
        case KVM_EXIT_X86_RDMSR:
        case KVM_EXIT_X86_WRMSR: run.msr.error = 1; return;  // #GP, as for an MSR that is not there
        case KVM_EXIT_DIRTY_RING_FULL:
            if (handle_dirty_ring()) {
                return;
            }
            break;
        case KVM_EXIT_NOTIFY:
            if ((run.notify.flags & KVM_NOTIFY_CONTEXT_INVALID) == 0) {
                return;
            }
            break;
        default: break;
    }
    crash(fmt::format("KVM ended with exit reason {} ({}), which the machine cannot serve", reason,
                      exit_reason_name(reason)),
          exit_details(run));
}

bool Vcpu::handle_dirty_ring() {
    return events_.dirty_ring_full && events_.dirty_ring_full(index_).ok();
}

bool Vcpu::handle_io_exit(kvm_run& run) {
    if (run.exit_reason == KVM_EXIT_IO) {
        handle_port(run);
        io_pending_ = true;
        return true;
    }
    if (run.exit_reason == KVM_EXIT_MMIO) {
        handle_mmio(run);
        io_pending_ = true;
        return true;
    }
    return false;
}

void Vcpu::handle_port(kvm_run& run) {
    const auto& io = run.io;
    const std::span<uint8_t> data = fd_.io_data();
    const size_t width = io.size;
    if (width == 0 || data.size() != width * io.count) {
        crash("KVM described a port access that is outside its page", exit_details(run));
        return;
    }
    for (uint32_t i = 0; i < io.count; ++i) {  // rep ins/outs arrive as one exit
        const std::span<uint8_t> item = data.subspan(i * width, width);
        const bool claimed = io.direction == KVM_EXIT_IO_OUT ? ports_.write(io.port, item)
                                                             : ports_.read(io.port, item);
        if (!claimed) {
            statistics_.unclaimed_ports.increment();
        }
    }
}

void Vcpu::handle_mmio(kvm_run& run) {
    auto& mmio = run.mmio;
    const size_t width = std::min<size_t>(mmio.len, sizeof mmio.data);
    const std::span<uint8_t> data(mmio.data, width);
    const bool claimed =
        mmio.is_write != 0 ? mmio_.write(mmio.phys_addr, data) : mmio_.read(mmio.phys_addr, data);
    if (!claimed) {
        statistics_.unclaimed_mmio.increment();
    }
}

bool Vcpu::handle_guest_ends(kvm_run& run) {
    switch (run.exit_reason) {
        case KVM_EXIT_SHUTDOWN:
            stay_parked();
            events_.triple_fault();
            return true;
        case KVM_EXIT_SYSTEM_EVENT: handle_system_event(run); return true;
        case KVM_EXIT_INTERNAL_ERROR:
            crash(run.internal.suberror == KVM_INTERNAL_ERROR_EMULATION
                      ? "KVM could not emulate an instruction"
                      : fmt::format("KVM reported internal error {}",
                                    uint32_t{run.internal.suberror}),
                  exit_details(run));
            return true;
        case KVM_EXIT_FAIL_ENTRY:
            crash(fmt::format("the processor refused to enter the guest, hardware reason {:#x}",
                              uint64_t{run.fail_entry.hardware_entry_failure_reason}),
                  exit_details(run));
            return true;
        default: return false;
    }
}

void Vcpu::handle_system_event(kvm_run& run) {
    stay_parked();
    switch (run.system_event.type) {
        case KVM_SYSTEM_EVENT_SHUTDOWN: events_.shutdown(); return;
        case KVM_SYSTEM_EVENT_RESET: events_.reset(); return;
        default:
            crash(fmt::format("the guest raised system event {}", uint32_t{run.system_event.type}),
                  exit_details(run));
    }
}

void Vcpu::crash(std::string reason, Json details) {
    io_pending_ = false;  // what KVM was doing is beyond completing
    stay_parked();
    details.set("state", register_dump(fd_, memory_));
    if (const auto unreported = crash_reports_.admit()) {  // it may be reset and crash for ever
        log_error("vcpu", "the guest cannot go on",
                  {{"vcpu", index_},
                   {"reason", reason},
                   {"details", details.dump()},
                   {"unreported", *unreported}});
    }
    events_.crashed({index_, std::move(reason), std::move(details)});
}

Json Vcpu::exit_details(const kvm_run& run) const {
    Json details = Json::object({{"exit_reason", exit_reason_name(run.exit_reason)}});
    if (run.exit_reason == KVM_EXIT_INTERNAL_ERROR) {
        const auto& internal = run.internal;
        details.set("suberror", uint32_t{internal.suberror});
        Json data = Json::array();
        for (uint32_t i = 0; i < std::min<uint32_t>(internal.ndata, std::size(internal.data));
             ++i) {
            data.push_back(fmt::format("{:#x}", uint64_t{internal.data[i]}));
        }
        details.set("data", std::move(data));
        const auto& failure = run.emulation_failure;
        constexpr uint64_t kHasBytes = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
        if (internal.suberror == KVM_INTERNAL_ERROR_EMULATION && failure.ndata >= 1 &&
            (failure.flags & kHasBytes) != 0) {
            const size_t size = std::min<size_t>(failure.insn_size, sizeof failure.insn_bytes);
            details.set("failed_instruction", hex_bytes(std::span(failure.insn_bytes, size)));
        }
    }
    return details;
}

std::string Vcpu::exit_reason_name(uint32_t reason) {
    return reason < std::size(kExitNames) ? kExitNames[reason] : fmt::format("reason_{}", reason);
}

}  // namespace kumoi::hypervisor
