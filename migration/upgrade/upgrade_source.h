// UpgradeSource: the older process of a live upgrade (docs/reference/live-upgrade.md): a migration
// to a process on this host that has the guest's memory already. The guest stands still twice, for
// a rehearsal and for the handover; nothing is copied but the state of its devices.
//
// Loop thread only. Whoever is silent while the guest stands still has kSilenceNs: then it goes on
// here, unless it has been given away.
#pragma once

#include <memory>
#include <vector>

#include "migration/handover/source.h"
#include "migration/migration_end.h"

namespace kumoi::migration {

class UpgradeSource final : public MigrationEnd {
public:
    // Nothing has changed for the guest when this fails.
    static Result<std::unique_ptr<UpgradeSource>> begin(hypervisor::MigrationPort& port,
                                                        const MigrationRequest& request,
                                                        Events events);
    ~UpgradeSource() override;

    Json status() const override;
    bool ended() const override { return ended_ns_ != 0; }
    Result<void> reconnect(std::vector<std::unique_ptr<StreamSocket>> sockets) override;
    Result<void> verdict(const VerdictRequest& request) override;
    Result<void> cancel() override;
    Result<void> force(const std::string& how) override;

private:
    UpgradeSource(hypervisor::MigrationPort& port, const MigrationRequest& request,
                  HandoverJournal journal, Events events);
    Result<void> start(std::unique_ptr<StreamSocket> socket);
    Result<std::vector<hypervisor::SectionWriter>> state() const;
    Result<void> send_sections(const std::vector<hypervisor::SectionWriter>& sections);
    void rehearse();
    Result<void> offer(const std::vector<hypervisor::SectionWriter>& sections);
    void stop_machine();
    void hand_over();
    Result<void> send_state();

    void arrived(unsigned link, Message message) override;
    void message(const Message& message);
    void link_lost(const Error& error) override;
    void patience_is_over(int64_t since_ns);
    void fail(const Error& error);
    void settle();
    void come_back();
    void end(Phase phase);

    void run_guest() override;
    void discard_guest() override;

    SourceHandover handover_;
    bool cancel_asked_ = false;
    int64_t stopped_ns_ = 0;
    int64_t rehearsal_ns_ = 0;
    int64_t save_ns_ = 0;
    int64_t drop_ns_ = 0;
    int64_t downtime_ns_ = 0;
    int64_t ended_ns_ = 0;
};

}  // namespace kumoi::migration
