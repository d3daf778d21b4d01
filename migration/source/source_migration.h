// SourceMigration: the end that gives a guest away: it stops and restarts the machine as CopyJob
// asks, and hands the guest over as SourceHandover says (docs/reference/handover.md).
//
// Loop thread only. Made when a migration begins, kept until the next one, for its status. While it
// has not ended the machine must not be changed by others (MigrationControl sees to it).
#pragma once

#include <memory>
#include <optional>

#include "migration/handover/source.h"
#include "migration/migration_end.h"
#include "migration/postcopy/page_service.h"
#include "migration/source/copy_job.h"
#include "migration/source/slowdown_meter.h"

namespace kumoi::migration {

class SourceMigration final : public MigrationEnd {
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
    CopyJob::Events job_events();

    void arrived(unsigned link, Message message) override;
    void message(const Message& message);
    void accepted(std::span<const std::byte> body);
    void link_lost(const Error& error) override;
    void stop_machine();
    void take_state();
    void machine_goes_on();
    void slow_down(unsigned percent);
    Result<uint64_t> limit_for(unsigned percent);
    void let_go_on();
    void leave_alone();  // not slowed down any more
    void all_sent(bool post_copy);
    void job_failed(const Error& error);
    // After anything that may have moved the handover.
    void settle();
    void come_back();
    void serve_pages();
    void end(Phase phase);
    void tell_later();

    void run_guest() override;
    void discard_guest() override;

    SourceHandover handover_;
    bool cancel_asked_ = false;
    bool logging_ = false;  // the dirty log runs
    int64_t ended_ns_ = 0;
    int64_t stopped_ns_ = 0;
    int64_t downtime_ns_ = 0;
    SlowdownMeter slowdown_;
    uint64_t dirty_limit_ = 0;       // in force, bytes a second a vCPU; 0: none
    std::vector<uint64_t> dirtied_;  // pages by each vCPU, when last looked at
    int64_t dirtied_ns_ = 0;
    std::unique_ptr<CopyJob> job_;
    std::unique_ptr<PageService> service_;  // post-copy
    bool drained_ = false;                  // the destination has all memory
};

}  // namespace kumoi::migration
