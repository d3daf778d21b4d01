// MigrationPort: what a live migration may do with a machine: stop it and let it go on without
// anybody being told, take its state, know which pages were written; and on the other side fill a
// machine that was made for a guest from elsewhere, and let it run. Who decides is above
// (migration/). Loop thread, but for memory() and dirty_log() (dirty_log.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/disk_ownership.h"
#include "hypervisor/machine_state.h"
#include "hypervisor/memory/dirty_log.h"
#include "hypervisor/memory/guest_memory.h"
#include "hypervisor/vmm.h"

namespace kumoi::hypervisor {

class MigrationPort {
public:
    explicit MigrationPort(Vmm& vmm) : vmm_(vmm) {}

    GuestMemory& memory() { return *vmm_.memory_; }
    DirtyLog& dirty_log() { return vmm_.dirty_log(); }
    EventLoop& loop() { return vmm_.seams_.loop; }
    const Clock& clock() const { return vmm_.seams_.clock; }
    FileSource& files() { return vmm_.seams_.files; }
    const VmConfig& config() const { return vmm_.config_; }
    VmState state() const { return vmm_.state_; }
    // Equal for machines whose states fit each other.
    std::string shape_digest() const;

    // The other side is a process on this host, with the same memory: what is written need not be
    // durable for it to be seen there, and no network hears that the guest has moved.
    void set_same_host(bool same);
    void write_back_disks() { vmm_.disk_ownership().write_back(); }  // before stop()
    // What the machine can pass on to such a process; null: nothing.
    Heritage* heritage() { return files().heritage(); }

    // --- The side that gives the guest away ---
    // Conflict: not running or paused, being saved, or its memory is not all here.
    Result<void> may_begin() const;
    // Whether the shared disks can be had again once they are given free at this epoch.
    Result<void> may_drop_disks(uint64_t epoch) const;
    // From here on every write to guest memory is seen.
    Result<void> begin_logging() { return dirty_log().start(); }
    void end_logging() { dirty_log().stop(); }
    // Null: no device tells which pages are free.
    FreePageHints* free_page_hints() { return vmm_.devices_->balloon(); }
    void throttle(unsigned percent);  // of their time, taken from the vCPUs
    // Whether it is known which vCPU writes; where it is not, the next two are refused.
    bool writers_are_known() { return dirty_log().kind() == "ring"; }
    Result<std::vector<uint64_t>> dirtied_pages();   // by each vCPU since it is there
    Result<void> limit_dirty(uint64_t bytes_per_s);  // of each vCPU; 0: no limit
    unsigned vcpus() const;                          // plugged ones
    // What all vCPUs have rested, by throttle() or limit_dirty(), or waited in full dirty rings.
    int64_t rested_ns() const;
    // The vCPUs parked, all requests finished, the clock standing. The guest's own requests
    // (reset, power off) that came just before have run once functions posted now have.
    Result<void> stop();
    bool stopped() const { return stopped_; }
    // It runs on as it was before stop(): running, or paused by its operator.
    void go_on();
    bool paused_by_operator() const { return was_paused_; }
    // Why the machine as it stands must not be given away: it crashed, or has a request of the
    // guest to carry out. While stopped.
    Result<void> check_stopped() const;
    // The sections of everything but memory. While stopped.
    Result<std::vector<SectionWriter>> take_state() const;
    // The guest is elsewhere for good: this machine never runs again.
    void moved();

    // --- Disks, on both sides (migration/handover/handover.h says when) ---
    // A disk whose contents can come with the stream. Unsupported: another process serves it.
    Result<LiveDisk*> live_disk(const std::string& id);
    // Those whose contents come with the guest: each host has its own. Opened on an incoming
    // machine.
    Result<void> own_disks(const std::vector<std::string>& ids);
    using DiskTake = hypervisor::DiskTake;
    DiskTake take_disks(uint64_t before, uint64_t peer, uint64_t after);
    DiskTake hold_disks(uint64_t epoch);
    void drop_disks();

    // --- The side that takes it ---
    // One error that lists every reason why this machine could not take that state.
    Result<void> check(const SectionSource& sections);
    Result<void> load(const SectionSource& sections);
    // Whether memory can come after the guest (post-copy).
    bool may_serve_pages() { return vmm_.memory_on_demand_works(); }
    // Before load(): these pages are not here and come from `source` when they are touched, and
    // from behind. Blocks with a missing page are emptied. `complete`: on a thread of its own.
    Result<void> serve_pages(std::unique_ptr<BlockSource> source, const PageBitmap& missing,
                             std::function<void()> complete);
    // After pages could not be had: there is a connection again. A machine that was paused by it
    // goes on.
    void retry_pages();
    // vCPU threads are there, parked: so that run() has little to do.
    Result<void> warm_up();
    void run(bool paused);

private:
    MachineState machine_state() const;

    Vmm& vmm_;
    bool stopped_ = false;
    bool was_paused_ = false;
    bool same_host_ = false;
};

}  // namespace kumoi::hypervisor
