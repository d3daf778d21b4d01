// VirtioBalloon: the memory balloon (virtio 1.2 §5.5): the host asks for a number of pages, the
// guest's driver puts them in, and what is in is given back to the host at once.
//
// Inflate and deflate queues, statistics on request or by interval, deflate-on-OOM, page poison,
// free page reporting and free page hints. Reported pages go back to the host unless the guest
// fills free pages with something other than zero (§5.5.6.7: they must come back as they were);
// then it is not asked for hints, either.
// Hints, for a migration (hypervisor/memory/free_page_hints.h): a new number in the configuration
// asks for them. The driver answers in a queue of their own: that number, free pages, number 0; it
// keeps the pages until it reads DONE.
// Queue numbers: Linux and QEMU leave out the queues of features that were not agreed; the
// specification does not. Both are understood (role()).
// Threading as VirtioDevice; set_target() and request_statistics() come from the control thread,
// begin(), progress() and end() from any one thread.
#pragma once

#include <array>
#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "hypervisor/memory/free_page_hints.h"
#include "hypervisor/memory/guest_memory.h"
#include "hypervisor/virtio/device.h"

namespace kumoi::hypervisor {

struct VirtioBalloonOptions {
    std::string name = "balloon";
    uint64_t target_mib = 0;  // what the guest is asked to give from the start
    bool deflate_on_oom = true;
    bool free_page_reporting = true;
    bool free_page_hints = true;
    int64_t statistics_interval_ms = 0;  // 0: only when asked
};

class VirtioBalloon final : public VirtioDevice, public FreePageHints {
public:
    static constexpr uint64_t kPageSize = 4096;
    static constexpr uint64_t kPagesPerMib = (1u << 20) / kPageSize;
    static constexpr size_t kPagesPerChainMax = 4096;
    static constexpr size_t kStatisticCount = 16;
    static constexpr size_t kStatisticsBytesMax = 64 * 10;

    struct State {
        uint64_t target_mib = 0;
        uint64_t actual_mib = 0;            // as the driver says
        int64_t statistics_age_ms = -1;     // -1: none came yet
        DeviceStatistics guest_statistics;  // bytes and counts, by name
    };

    VirtioBalloon(VirtioBalloonOptions options, GuestMemory& memory, const Clock& clock);

    // Any thread. A target beyond the guest's RAM is refused.
    Result<void> set_target(uint64_t mib);
    void request_statistics();
    State state() const;

    // FreePageHints
    bool available() const override;
    bool begin(FreePages& into) override;
    Progress progress() const override;
    void end() override;

    std::string name() const override { return options_.name; }
    uint16_t type() const override { return virtio::kTypeBalloon; }
    uint32_t class_code() const override { return 0xff'00'00; }
    uint64_t features() const override;
    std::vector<uint16_t> queue_sizes() const override;
    void read_config(uint32_t offset, std::span<uint8_t> out) const override;
    void write_config(uint32_t offset, std::span<const uint8_t> bytes) override;
    DeviceStatistics statistics() const override;
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

    Result<void> start(VirtioContext& context) override;
    void begin_serving() override;
    void process_queue(Queue& queue) override;
    void quiesce() override;
    void resume() override;
    void stop() override;

private:
    enum class Role { None, Inflate, Deflate, Statistics, Hints, Reporting };
    Role role(uint16_t queue_index) const;
    void inflate(Queue& queue);
    void inflate_chain(const Chain& chain);
    void deflate(Queue& queue);
    void report(Queue& queue);
    void report_chain(const Chain& chain);
    void take_hints(Queue& queue);
    void take_hint(const Chain& chain);
    void take_hint_number(const Chain& chain);
    void tell_hint_command();  // under context_mutex_
    void mark_free(std::span<const std::byte> bytes);
    bool content_matters() const;  // of free pages; context_ is there
    bool may_hint() const;         // under context_mutex_
    void take_statistics(Queue& queue);
    void parse_statistics(const Chain& chain);
    void ask_for_statistics();  // on the I/O thread
    void arm_timer();
    void discard(uint64_t gpa, uint64_t size);
    bool turn_is_over(Queue& queue);

    const VirtioBalloonOptions options_;
    GuestMemory& memory_;
    const Clock& clock_;
    // Configuration space; vCPU threads read and write it.
    std::atomic<uint32_t> target_pages_;
    std::atomic<uint32_t> actual_pages_{0};
    std::atomic<uint32_t> poison_{0};
    std::atomic<uint32_t> hint_command_;  // free_page_hint_cmd_id

    mutable std::mutex hints_mutex_;  // guards the next five
    FreePages* hints_ = nullptr;      // null: nobody wants any
    uint32_t last_hint_number_;
    bool hints_come_ = false;  // the driver has answered with our number
    bool hints_complete_ = false;
    uint64_t hint_pages_ = 0;

    mutable std::mutex context_mutex_;  // context_ against set_target() from another thread
    VirtioContext* context_ = nullptr;
    std::optional<EventLoop::TimerId> timer_;
    bool paused_ = false;
    bool tell_hints_done_ = false;           // to a driver that came with its state
    std::optional<Chain> statistics_chain_;  // ours until statistics are wanted
    bool statistics_known_ = false;          // the buffer put back by a pause was read before
    std::vector<uint32_t> pages_;            // scratch
    size_t pages_this_turn_ = 0;

    std::array<std::atomic<uint64_t>, kStatisticCount> guest_statistics_;
    std::atomic<uint32_t> guest_statistics_valid_{0};  // a bit for each tag
    std::atomic<int64_t> statistics_ns_{-1};
    Counter inflated_, deflated_, reported_, hinted_, discarded_bytes_, discard_errors_, malformed_;
};

}  // namespace kumoi::hypervisor
