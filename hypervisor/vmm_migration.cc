#include "hypervisor/vmm_migration.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "hypervisor/block/live/live_disk.h"
#include "hypervisor/kvm/kvm_dirty_log.h"
#include "hypervisor/snapshot/format.h"
#include "hypervisor/vcpu/vcpu_throttle.h"
#include "hypervisor/virtio/guest_disk.h"

namespace kumoi::hypervisor {

Result<std::unique_ptr<Vmm>> Vmm::incoming(VmConfig config, Seams seams, Hooks hooks) {
    std::unique_ptr<Vmm> vmm(new Vmm(std::move(config), seams, std::move(hooks)));
    TRY(vmm->create_parts(MachineDevices::DisksOpen::Later));
    vmm->devices_->pause();
    vmm->state_ = VmState::Incoming;
    return vmm;
}

MachineState MigrationPort::machine_state() const {
    return MachineState(
        {vmm_.config_, *vmm_.kvm_, *vmm_.vm_, *vmm_.devices_, vmm_.vcpus_, vmm_.nvram()});
}

std::string MigrationPort::shape_digest() const {
    return machine_state().shape_digest();
}

Result<void> MigrationPort::may_begin() const {
    if (vmm_.state_ != VmState::Running && vmm_.state_ != VmState::Paused) {
        return Error::conflict("the machine is {}; only a running or paused one can be migrated",
                               to_string(vmm_.state_));
    }
    if (vmm_.snapshots_.saving()) {
        return Error::conflict("a save to {} is under way", vmm_.snapshots_.request.path)
            .with_hint("wait for it, or call save_cancel");
    }
    if (vmm_.snapshots_.pages && !vmm_.snapshots_.pages->finished()) {
        return Error::conflict("the machine's own memory is still being loaded")
            .with_hint("wait for the event memory_loaded");
    }
    return {};
}

Result<void> MigrationPort::may_drop_disks(uint64_t epoch) const {
    return vmm_.disk_ownership().may_drop(epoch);
}

void MigrationPort::set_same_host(bool same) {
    same_host_ = same;
    vmm_.disk_ownership().set_same_host(same);
}

Result<void> MigrationPort::stop() {
    if (stopped_) {
        return {};
    }
    if (vmm_.state_ != VmState::Running && vmm_.state_ != VmState::Paused) {
        return Error::conflict("the machine is {}", to_string(vmm_.state_));
    }
    was_paused_ = vmm_.state_ == VmState::Paused;
    if (!was_paused_) {
        TRY(vmm_.enter_pause());
    }
    stopped_ = true;
    return {};
}

void MigrationPort::go_on() {
    if (!std::exchange(stopped_, false) || was_paused_ || vmm_.state_ != VmState::Paused) {
        return;
    }
    vmm_.leave_pause("");
}

Result<void> MigrationPort::check_stopped() const {
    if (vmm_.state_ != VmState::Paused) {
        return Error::conflict("the machine is {}", to_string(vmm_.state_));
    }
    if (vmm_.deferred_ && !was_paused_) {
        return Error::unavailable("the guest is just being reset or powered off");
    }
    return {};
}

Result<std::vector<SectionWriter>> MigrationPort::take_state() const {
    TRY(check_stopped());
    if (!same_host_) {
        TRY(vmm_.disk_ownership().sync());  // what fails now need not be given away
    }
    const uint64_t clock_ns =
        vmm_.paused_clock_ns_ ? *vmm_.paused_clock_ns_ : TRY(vmm_.vm_->clock());
    const int64_t wall_ns =
        was_paused_ ? 0 : vmm_.paused_wall_ns_;  // its operator stopped its time
    return machine_state().save(clock_ns, wall_ns);
}

void MigrationPort::moved() {
    vmm_.deferred_ = nullptr;
    vmm_.set_state(VmState::Moved, "moved", Json::object());
}

Result<LiveDisk*> MigrationPort::live_disk(const std::string& id) {
    GuestDisk* disk = TRY(vmm_.devices_->disk(id));
    LiveDisk* live = disk->image().live();
    if (live == nullptr) {
        return Error::unsupported(
            "disk \"{}\" is served by another process or read-only: its "
            "contents cannot come with the guest",
            id);
    }
    return live;
}

Result<void> MigrationPort::own_disks(const std::vector<std::string>& ids) {
    return vmm_.disk_ownership().set_own(ids);
}

DiskTake MigrationPort::take_disks(uint64_t before, uint64_t peer, uint64_t after) {
    return vmm_.disk_ownership().take(before, peer, after);
}

DiskTake MigrationPort::hold_disks(uint64_t epoch) {
    return vmm_.disk_ownership().hold(epoch);
}

void MigrationPort::drop_disks() {
    (void)vmm_.disk_ownership().drop();  // logs; take_state() has made them durable before
}

void MigrationPort::throttle(unsigned percent) {
    if (auto set = vmm_.throttle().set(percent); !set) {
        log_warn("vmm", "the vCPUs are not slowed down", {{"error", set.error().text()}});
    }
}

Result<std::vector<uint64_t>> MigrationPort::dirtied_pages() {
    std::vector<uint64_t> pages;
    for (uint32_t vcpu = 0; vcpu < vmm_.vcpus_.size(); ++vcpu) {
        pages.push_back(TRY(vmm_.dirty_log_->dirtied_by(vcpu)));
    }
    return pages;
}

Result<void> MigrationPort::limit_dirty(uint64_t bytes_per_s) {
    return vmm_.throttle().set_dirty_limit(bytes_per_s);
}

unsigned MigrationPort::vcpus() const {
    return static_cast<unsigned>(std::ranges::count_if(
        vmm_.vcpus_, [](const std::unique_ptr<Vcpu>& vcpu) { return vcpu->plugged(); }));
}

int64_t MigrationPort::rested_ns() const {
    int64_t rested = vmm_.dirty_log_->ring_full_ns();
    for (const auto& vcpu : vmm_.vcpus_) {
        rested += static_cast<int64_t>(vcpu->statistics().rested_ns.value());
    }
    return rested;
}

Result<void> MigrationPort::check(const SectionSource& sections) {
    return machine_state().check(sections);
}

Result<void> MigrationPort::load(const SectionSource& sections) {
    MachineState state = machine_state();
    TRY(state.check(sections));
    vmm_.paused_clock_ns_ = TRY(state.load_moved(sections, clock().wall_ns()));
    vmm_.arrival_ = {.announce = !same_host_, .clock_since_ns = state.saved_wall_ns()};
    return {};
}

Result<void> MigrationPort::serve_pages(std::unique_ptr<BlockSource> source,
                                        const PageBitmap& missing, std::function<void()> complete) {
    const std::span<std::byte> bytes(memory().regions().front().host, memory().size());
    PageServer::Options options;
    options.quiet_ms = 0;
    options.threads = ThreadClass::Migration;
    options.present.resize(snapshot::block_count(bytes.size()));
    for (size_t block = 0; block < options.present.size(); ++block) {
        options.present[block] =
            missing.count(block * snapshot::kBlockPages, snapshot::kBlockPages) == 0;
        const uint64_t offset = block * snapshot::kBlockSize;
        const auto stale =
            bytes.subspan(offset, std::min(snapshot::kBlockSize, bytes.size() - offset));
        if (!options.present[block] && madvise(stale.data(), stale.size(), MADV_REMOVE) != 0) {
            return Error::from_errno(errno, "emptying guest memory");
        }
    }
    PageServer::Events events;
    events.failed = [&vmm = vmm_](const Error& error) {
        vmm.post_alive([&vmm, error] {
            if (vmm.snapshots_.pages && vmm.snapshots_.pages->failing()) {  // still
                vmm.memory_failed(error);
            }
        });
    };
    events.finished = [&vmm = vmm_, complete = std::move(complete)] {
        vmm.post_alive([&vmm] { vmm.memory_loaded(); });
        complete();
    };
    vmm_.snapshots_.pages = TRY(PageServer::start(files(), memory(), std::move(source), clock(),
                                                  std::move(options), std::move(events)));
    return {};
}

void MigrationPort::retry_pages() {
    if (vmm_.snapshots_.memory_missing && vmm_.state_ == VmState::Paused) {
        vmm_.leave_pause("resumed");
    } else if (vmm_.snapshots_.pages) {
        vmm_.snapshots_.pages->retry();
    }
}

Result<void> MigrationPort::warm_up() {
    return vmm_.start_vcpus();
}

void MigrationPort::run(bool paused) {
    if (paused) {
        vmm_.set_state(VmState::Paused, "paused", Json::object());
        return;
    }
    vmm_.leave_pause("resumed");
}

}  // namespace kumoi::hypervisor
