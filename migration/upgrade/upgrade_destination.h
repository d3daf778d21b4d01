// UpgradeDestination: the newer process of a live upgrade (docs/reference/live-upgrade.md): its
// machine was made from the older one's memory and descriptors; it checks and loads the state, and
// runs the guest when, and only when, DestinationHandover says so. Loop thread only.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "migration/handover/destination.h"
#include "migration/migration_end.h"

namespace kumoi::migration {

class UpgradeDestination final : public MigrationEnd {
public:
    static Result<std::unique_ptr<UpgradeDestination>> begin(hypervisor::MigrationPort& port,
                                                             const MigrationRequest& request,
                                                             Events events);
    ~UpgradeDestination() override;

    Json status() const override;
    bool ended() const override { return ended_; }
    Result<void> reconnect(std::vector<std::unique_ptr<StreamSocket>> sockets) override;
    Result<void> verdict(const VerdictRequest& request) override;
    Result<void> cancel() override;
    Result<void> force(const std::string& how) override;

private:
    UpgradeDestination(hypervisor::MigrationPort& port, const MigrationRequest& request,
                       HandoverJournal journal, Events events);

    void arrived(unsigned link, Message message) override;
    void message(const Message& message, const ReceivedState* state);
    Result<void> check_offer(const ReceivedState& state);
    void answer_offer(const ReceivedState& state);
    void take_state(std::span<const std::byte> body, const ReceivedState& state);
    void take_again(std::span<const std::byte> body);
    void handover_word(std::span<const std::byte> body);
    void fail(const Error& error);
    void link_lost(const Error& error) override;
    void settle();

    void run_guest() override;
    void discard_guest() override {}

    DestinationHandover handover_;
    std::optional<Offer> offer_;
    bool accepted_ = false;
    std::optional<StateEnd> state_end_;  // loaded
    bool ended_ = false;
    int64_t load_ns_ = 0;
    std::mutex arriving_mutex_;
    std::shared_ptr<ReceivedState> arriving_;  // with the link's thread
};

}  // namespace kumoi::migration
