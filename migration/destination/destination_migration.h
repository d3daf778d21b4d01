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

#include "migration/destination/disk_writer.h"
#include "migration/handover/destination.h"
#include "migration/migration_end.h"
#include "migration/postcopy/peer_source.h"
#include "migration/stream/page_receiver.h"

namespace kumoi::migration {

class DestinationMigration final : public MigrationEnd {
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

    void arrived(unsigned link, Message message) override;
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
    void link_lost(const Error& error) override;
    void settle();

    void run_guest() override;
    void discard_guest() override;

    DestinationHandover handover_;
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
    int64_t load_ns_ = 0;
    std::atomic<unsigned> waiting_messages_{0};
    std::mutex arriving_mutex_;
    std::shared_ptr<ReceivedState> arriving_;  // with the link's thread
    hypervisor::PageBitmap missing_;           // the same
    std::unique_ptr<DiskWriter> disks_;        // that come with the stream; null: none
    std::unique_ptr<PageReceiver> receiver_;
};

}  // namespace kumoi::migration
