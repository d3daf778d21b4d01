// SourceMigration: the end that gives a guest away: it stops and restarts the machine as CopyJob
// asks, and hands the guest over as SourceHandover says (docs/reference/handover.md).
//
// Loop thread only. Made when a migration begins, kept until the next one, for its status. While it
// has not ended the machine must not be changed by others (MigrationControl sees to it).
#pragma once

#include <memory>
#include <optional>

#include "base/event_loop.h"
#include "hypervisor/vmm_migration.h"
#include "migration/handover/source.h"
#include "migration/migration_end.h"
#include "migration/postcopy/page_service.h"
#include "migration/source/copy_job.h"

namespace kumoi::migration {

class SourceMigration final : public MigrationEnd, private HandoverHost {
public:
    // Nothing has changed for the guest when this fails.
    static Result<std::unique_ptr<SourceMigration>> begin(hypervisor::MigrationPort& port,
                                                          const MigrationRequest& request,
                                                          Events events);
    ~SourceMigration() override;

    Json status() const override;
    bool ended() const override;
    Result<void> reconnect(std::vector<std::unique_ptr<StreamSocket>> sockets) override;
    Result<void> verdict(const VerdictRequest& request) override;
    Result<void> cancel() override;
    Result<void> force(const std::string& how) override;

private:
    SourceMigration(hypervisor::MigrationPort& port, const MigrationRequest& request,
                    HandoverJournal journal, Events events);
    Result<void> start(std::vector<std::unique_ptr<StreamSocket>> sockets);
    void rehearse(std::vector<std::unique_ptr<StreamSocket>> sockets);
    Result<void> make_job(std::vector<std::unique_ptr<StreamSocket>> sockets);
    std::shared_ptr<ControlLink> make_link(std::unique_ptr<StreamSocket> socket);
    CopyJob::Events job_events();
    // Runs on the loop as long as this lives.
    void post(std::function<void()> function);

    void message(const Message& message);
    void link_lost(const Error& error);
    void stop_machine();
    void take_state();
    void machine_goes_on();
    void all_sent(bool post_copy);
    void job_failed(const Error& error);
    // After anything that may have moved the handover.
    void settle();
    void come_back();
    void serve_pages();
    std::span<const std::byte> memory_bytes() const;
    void end(Phase phase);
    void set_phase(Phase phase);
    void tell_later();
    int64_t now() const { return port_.clock().monotonic_ns(); }

    // HandoverHost
    bool record(HandoverMark mark) override;
    DiskTake take_disks(const LeaseStep& step) override;
    DiskTake hold_disks(uint64_t epoch) override;
    void drop_disks() override;
    void send(HandoverMessage message) override;
    void run_guest() override;
    void discard_guest() override;

    hypervisor::MigrationPort& port_;
    const MigrationRequest request_;
    const Events events_;
    HandoverJournal journal_;
    SourceHandover handover_;
    Phase phase_ = Phase::Connecting;
    std::optional<Error> error_;
    bool cancel_asked_ = false;
    bool connected_ = true;
    unsigned links_ = 0;    // that were made
    bool logging_ = false;  // the dirty log runs and discards are forbidden
    int64_t begun_ns_ = 0;
    int64_t ended_ns_ = 0;
    int64_t stopped_ns_ = 0;
    int64_t downtime_ns_ = 0;
    std::shared_ptr<ControlLink> link_;  // with the job
    std::unique_ptr<CopyJob> job_;
    std::unique_ptr<PageService> service_;                 // post-copy
    bool drained_ = false;                                 // the destination has all memory
    std::shared_ptr<int> life_ = std::make_shared<int>();  // shared: weakly, with posted functions
};

}  // namespace kumoi::migration
