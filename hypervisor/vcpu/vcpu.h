// Vcpu: one virtual processor's thread: it runs KVM_RUN, hands port and memory accesses to the
// buses, and parks when asked to.
//
// Life: created parked; resume() lets it run; request_pause() kicks it out of KVM_RUN
// (immediate_exit plus a signal, so a kick between the check and the ioctl is not lost) and
// wait_parked() is the barrier. A vCPU that cannot go on (crash, triple fault, shutdown) parks
// itself and says so through Events. Threading: everything here but fd() and the accesses may be
// called from any thread; fd() only while the vCPU is parked. Events are called on the vCPU's
// thread and must not wait for it.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/json.h"
#include "base/metrics.h"
#include "hypervisor/board/io_bus.h"
#include "hypervisor/kvm/vcpu_fd.h"
#include "hypervisor/limits/report_limit.h"
#include "hypervisor/memory/guest_memory.h"
#include "hypervisor/resources_config.h"

namespace kumoi::hypervisor {

struct CrashReport {
    uint32_t vcpu = 0;
    std::string reason;  // "KVM could not emulate an instruction"
    Json details;        // exit data, registers, instruction bytes
};

class Vcpu {
public:
    static constexpr size_t kExitReasons = 64;

    struct Events {
        std::function<void(CrashReport)> crashed;
        std::function<void()> triple_fault;  // KVM_EXIT_SHUTDOWN
        std::function<void()> shutdown;      // asked for by the guest through KVM
        std::function<void()> reset;
        // Its dirty ring is full: takes what is in it, or says why not.
        std::function<Result<void>(uint32_t vcpu)> dirty_ring_full;
    };
    struct Statistics {
        std::array<Counter, kExitReasons> exits;  // by KVM_EXIT_* number
        Counter interrupted;                      // KVM_RUN ended by a signal
        Counter unclaimed_ports;                  // accesses that no device answered
        Counter unclaimed_mmio;
        Counter rested_ns;  // by rest()
    };

    Vcpu(uint32_t index, VcpuFd fd, IoBus& ports, IoBus& mmio, const GuestMemory& memory,
         Events events);
    ~Vcpu();  // stop() and join()
    Vcpu(const Vcpu&) = delete;
    Vcpu& operator=(const Vcpu&) = delete;

    // To be called once, before any vCPU thread exists: installs the handler of the kick signal.
    static Result<void> install_kick_handler();

    Result<void> start();  // the thread, parked
    void resume();         // nothing for a vCPU that is not plugged
    // Unplugged: stays parked, whatever the guest sends it. While parked, or before start().
    void set_plugged(bool plugged);
    bool plugged() const;
    // Host CPUs its thread may use; after start().
    Result<void> set_affinity(const CpuList& cpus);
    void request_pause();
    bool wait_parked(int64_t timeout_ns);
    // Runs no guest code for so long, from about now on. A pause ends it; a parked vCPU has rest.
    void rest(int64_t nanoseconds);
    void request_stop();
    void join();

    uint32_t index() const { return index_; }
    VcpuFd& fd() { return fd_; }
    const Statistics& statistics() const { return statistics_; }
    int64_t cpu_time_ns() const;  // of the thread: what the guest and its exits have used
    static std::string exit_reason_name(uint32_t reason);

private:
    void thread_main();
    bool park_if_asked();  // false: the thread is to end
    void rest_if_asked(std::unique_lock<std::mutex>& lock);
    void finish_pending_io();
    void stay_parked();  // from the vCPU's own thread: park at the next turn
    void handle_run_error(int error);
    void handle_exit();
    bool handle_io_exit(kvm_run& run);     // false: not one of these
    bool handle_guest_ends(kvm_run& run);  // false: not one of these
    void handle_port(kvm_run& run);
    void handle_mmio(kvm_run& run);
    void handle_system_event(kvm_run& run);
    bool handle_dirty_ring();  // false: KVM has no business to say so
    void crash(std::string reason, Json details);
    Json exit_details(const kvm_run& run) const;

    const uint32_t index_;
    VcpuFd fd_;
    IoBus& ports_;
    IoBus& mmio_;
    const GuestMemory& memory_;
    Events events_;
    Statistics statistics_;
    std::atomic<bool> attention_{
        true};  // set with pause_wanted_ or stop_wanted_, read without lock
    ReportLimit crash_reports_;
    bool io_pending_ = false;   // own thread: KVM has yet to take our answer
    mutable std::mutex mutex_;  // guards all below
    std::condition_variable changed_;
    bool pause_wanted_ = true;
    bool stop_wanted_ = false;
    bool plugged_ = true;
    bool parked_ = false;
    int64_t rest_ns_ = 0;
    bool started_ = false;
    std::thread thread_;
};

}  // namespace kumoi::hypervisor
