// DestinationMigration: the end that takes a guest: puts its memory in place as it comes, checks
// and loads its state, and runs it when, and only when, DestinationHandover says so.
//
// Loop thread only. The machine is an incoming one. When the guest stays where it was,
// Events::finish says that this process is of no use any more.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include "base/event_loop.h"
#include "hypervisor/vmm_migration.h"
#include "migration/destination/disk_writer.h"
#include "migration/handover/destination.h"
#include "migration/migration_end.h"
#include "migration/postcopy/peer_source.h"
#include "migration/protocol/control_link.h"
#include "migration/stream/page_receiver.h"

namespace kumoi::migration {

class DestinationMigration final : public MigrationEnd, private HandoverHost {
public:
    static Result<std::unique_ptr<DestinationMigration>> begin(hypervisor::MigrationPort& port,
                                                               const MigrationRequest& request,
                                                               Events events);
    ~DestinationMigration() override;

    Json status() const override;
    bool ended() const override;
    Result<void> reconnect(std::vector<std::unique_ptr<StreamSocket>> sockets) override;
    Result<void> verdict(const VerdictRequest& request) override;
    Result<void> cancel() override;
    Result<void> force(const std::string& how) override;

private:
    DestinationMigration(hypervisor::MigrationPort& port, const MigrationRequest& request,
                         HandoverJournal journal, Events events);
    Result<void> start(std::vector<std::unique_ptr<StreamSocket>> sockets);
    Result<void> begin_disks(PageReceiver::Events& events);
    std::unique_ptr<ControlLink> make_link(std::unique_ptr<StreamSocket> socket);
    void post(std::function<void()> function);

    void arrived(unsigned link, Message message);  // on the link's thread
    void message(const Message& message, const std::shared_ptr<ReceivedState>& state);
    void take_offer(std::span<const std::byte> body);
    void check_disks(std::vector<std::string>& reasons);
    Result<void> check_offer(const ReceivedState& state);
    void answer_offer(const ReceivedState& state);
    void take_again(std::span<const std::byte> body);
    void take_state(std::span<const std::byte> body, std::shared_ptr<ReceivedState> state);
    void load_when_complete();
    Result<void> load();
    void memory_complete();
    void handover_word(HandoverMessage word);
    void fail(const Error& error);
    void link_lost(const Error& error);
    void settle();
    void set_phase(Phase phase);
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
    DestinationHandover handover_;
    Phase phase_ = Phase::Connecting;
    std::optional<Error> error_;
    std::optional<Offer> offer_;
    bool accepted_ = false;
    std::optional<StateEnd> state_end_;
    std::shared_ptr<ReceivedState> state_;  // of the stopped machine; with a posted function
    std::optional<uint32_t> round_done_;
    bool loaded_ = false;
    bool prepare_came_ = false;  // before all was loaded
    bool ended_ = false;
    bool drained_ = false;        // post-copy: all memory is here
    PeerSource* peer_ = nullptr;  // of the page server, while memory is missing
    bool connected_ = true;
    unsigned links_ = 0;  // that were made
    int64_t begun_ns_ = 0;
    int64_t load_ns_ = 0;
    std::atomic<unsigned> waiting_messages_{0};
    std::mutex arriving_mutex_;
    std::shared_ptr<ReceivedState> arriving_;  // with the link's thread
    hypervisor::PageBitmap missing_;           // the same
    std::unique_ptr<ControlLink> link_;
    std::unique_ptr<DiskWriter> disks_;  // that come with the stream; null: none
    std::unique_ptr<PageReceiver> receiver_;
    std::shared_ptr<int> life_ = std::make_shared<int>();  // shared: weakly, with posted functions
};

}  // namespace kumoi::migration
