// CopyJob: the thread that brings a running guest's memory to the other side, round after round,
// until the guest can be stopped for the last one; then that one and the machine's state.
//
//     offer -> accepted -> round 0 (everything) -> rounds (what was written) -> stop, please
//         -> last round, state -> all is sent
//
// It owns the data streams and the dirty log, never the machine: it asks for the machine to be
// stopped or to go on, and the loop does it. Events come on the job's thread. The functions may be
// called from the loop's thread only, but figures().
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "hypervisor/memory/dirty_log.h"
#include "hypervisor/memory/free_page_hints.h"
#include "migration/policy/convergence.h"
#include "migration/protocol/control_link.h"
#include "migration/source/disk_copy.h"
#include "migration/stream/page_sender.h"

namespace kumoi::migration {

class CopyJob {
public:
    struct Options {
        ConvergenceGoal goal;
        uint64_t bandwidth = 0;  // bytes a second, 0: unlimited
        bool compress = false;   // zstd
        bool delta = false;
    };
    struct Parts {
        PageSender::Memory memory;
        hypervisor::DirtyLog& log;  // started
        std::shared_ptr<ControlLink> link;
        std::vector<std::unique_ptr<StreamSocket>> streams;
        const Clock& clock;
        std::shared_ptr<DiskCopy> disks;             // begun; null: none come with the stream
        hypervisor::FreePageHints* hints = nullptr;  // null: nobody tells what is free
    };
    struct Events {
        std::function<void()> accepted;  // the other side can take it
        // The guest shall stand still now, and stopped() be called.
        std::function<void()> stop_wanted;
        std::function<void()> go_on_wanted;  // too much was written meanwhile
        std::function<void(unsigned percent)> throttle_wanted;
        // Memory and state, for good; after post-copy was chosen: but for what was told missing.
        std::function<void(bool post_copy)> all_sent;
        std::function<void(const Error&)> failed;  // the last event
    };
    struct Figures {
        uint64_t total = 0;                           // bytes of guest memory
        uint64_t remaining = 0;                       // bytes
        uint64_t disk_total = 0, disk_remaining = 0;  // bytes of disks that come along
        uint64_t sent = 0;                            // bytes on the wire
        uint64_t pages = 0, zero_pages = 0, free_pages = 0;
        uint64_t delta_pages = 0, same_pages = 0, packed_frames = 0;
        uint32_t round = 0;
        Convergence::Advice advice;
    };

    CopyJob(Parts parts, Options options, Events events);
    ~CopyJob();  // cancels, waits
    CopyJob(const CopyJob&) = delete;
    CopyJob& operator=(const CopyJob&) = delete;

    // `fixed_ns`: what stopping and taking the state took just now.
    void start(Offer offer, std::vector<hypervisor::SectionWriter> sections, int64_t fixed_ns);
    void accept(const Acceptance& acceptance);
    // The machine stands still, since stop_wanted or because somebody forces it to.
    void stopped();
    // Its state, taken after stopped(); `paused`: by its operator, before.
    void state(std::vector<hypervisor::SectionWriter> sections, bool paused);
    void force();            // stop the guest whatever it costs
    void force_post_copy();  // let it run there now, without the rest of its memory
    void cancel();
    // After all_sent.
    std::vector<std::unique_ptr<StreamSocket>> release_streams();
    Figures figures() const;

private:
    void run();
    Result<void> send_offer();
    Result<void> copy();
    Result<void> send_everything();
    Result<void> wait_for_hints();
    Result<void> send(PageSender::Holes holes, bool last = false);
    // True: the guest stands still and pending_ is all that is left.
    Result<bool> stop_guest(bool whatever_is_left);
    Result<void> finish(bool post_copy);
    Result<void> send_missing();
    Result<void> send_sections(const std::vector<hypervisor::SectionWriter>& sections);
    Convergence::Advice weigh();
    void publish(const Convergence::Advice& advice);
    // Waits until `ready`; Cancelled when that comes first.
    template <class Ready>
    Result<void> wait(const Ready& ready);

    Result<void> collect();
    uint64_t remaining() const;

    hypervisor::DirtyLog& log_;
    std::shared_ptr<DiskCopy> disks_;
    hypervisor::FreePageHints* const hints_;
    hypervisor::FreePages free_;  // what they tell
    std::shared_ptr<ControlLink> link_;
    const Clock& clock_;
    const Events events_;
    const ConvergenceGoal goal_;
    PageSender sender_;
    Offer offer_;
    std::vector<hypervisor::SectionWriter> offered_;
    Convergence convergence_;         // of the thread, as the next five
    hypervisor::PageBitmap pending_;  // to be sent next
    uint32_t round_ = 0;              // of the next send
    int64_t collected_ns_ = 0;
    int64_t round_ns_ = 0;
    uint64_t round_bytes_ = 0;
    std::atomic<bool> forced_{false};
    std::atomic<bool> post_copy_{false};
    mutable std::mutex mutex_;  // guards all below
    std::condition_variable changed_;
    std::optional<Acceptance> accepted_;
    bool stopped_ = false;
    bool cancelled_ = false;
    std::optional<std::vector<hypervisor::SectionWriter>> state_;
    bool paused_ = false;
    Figures figures_;
    std::thread thread_;
};

}  // namespace kumoi::migration
