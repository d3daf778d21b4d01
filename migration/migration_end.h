// MigrationEnd: what both ends of a migration are: what they tell and are asked over the control
// socket, their connection to each other, their journal, and what a handover does to the world.
//
// Loop thread only, but for arrived(). A derived destructor first calls stop_posting(), then ends
// its own threads and lets go of link_: whatever they have posted does nothing any more.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "hypervisor/vmm_migration.h"
#include "migration/handover/handover.h"
#include "migration/migration_request.h"
#include "migration/protocol/control_link.h"

namespace kumoi::migration {

enum class Phase {
    Connecting,  // the other side looks at what is coming
    Copying,
    Switching,  // the guest stands still
    PostCopy,   // it runs there, its memory is still coming
    Waiting,    // for the other side's word
    Undecided,  // the same, without a connection: until there is a new one, or a verdict
    Completed,  // end: it runs on the destination
    Failed,     // end: it runs, or stands, on the source
    Cancelled,  // end: the same, as it was asked for
    Superseded  // end: somebody took the disks by force; it never runs here again
};
std::string_view to_string(Phase phase);

class MigrationEnd : protected HandoverHost {
public:
    // On the loop's thread.
    struct Events {
        std::function<void(const Json& status)> changed;
        std::function<void()> finish;  // destination: this process is of no use any more
    };

    virtual Json status() const = 0;
    virtual bool ended() const = 0;
    virtual Result<void> reconnect(std::vector<std::unique_ptr<StreamSocket>> sockets) = 0;
    virtual Result<void> verdict(const VerdictRequest& request) = 0;
    virtual Result<void> cancel() = 0;
    virtual Result<void> force(const std::string& how) = 0;

protected:
    MigrationEnd(hypervisor::MigrationPort& port, const MigrationRequest& request,
                 HandoverJournal journal, Events events);

    // A message of connection number `link`, on that connection's thread.
    virtual void arrived(unsigned link, Message message) = 0;
    virtual void link_lost(const Error& error) = 0;
    // What an earlier connection tells late does not count.
    bool is_current(unsigned link) const { return link == links_; }
    void connect(std::unique_ptr<StreamSocket> socket);
    // The same once there was one; that it broke may not have been noticed yet.
    void connect_again(std::unique_ptr<StreamSocket> socket);
    // A source's first word on it: which migration this is.
    Result<void> send_again();

    // Run on the loop, as long as this lives.
    void post(std::function<void()> function);
    void call_after(int64_t delay_ns, std::function<void()> function);
    void stop_posting() { life_.reset(); }

    void set_phase(Phase phase);  // and tells it; nothing once it has ended
    void log_begun(std::string_view role) const;
    void log_end() const;
    std::span<std::byte> memory_bytes() const;
    int64_t now() const { return port_.clock().monotonic_ns(); }

    // HandoverHost
    bool record(HandoverMark mark) override;
    DiskTake take_disks(const LeaseStep& step) override;
    DiskTake hold_disks(uint64_t epoch) override;
    void drop_disks() override;
    void send(HandoverMessage message) override;

    hypervisor::MigrationPort& port_;
    const MigrationRequest request_;
    const Events events_;
    Phase phase_ = Phase::Connecting;
    std::optional<Error> error_;
    bool connected_ = true;
    const int64_t begun_ns_;
    std::shared_ptr<ControlLink> link_;  // with the source's thread that copies

private:
    HandoverJournal journal_;
    unsigned links_ = 0;                                   // connections there have been
    std::shared_ptr<int> life_ = std::make_shared<int>();  // shared: weakly, with posted functions
};

}  // namespace kumoi::migration
