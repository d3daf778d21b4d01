#include "migration/migration_end.h"

#include "base/event_loop.h"
#include "base/log.h"
#include "base/version.h"

namespace kumoi::migration {

namespace {

DiskTake disk_take(hypervisor::DiskTake take) {
    switch (take) {
        case hypervisor::DiskTake::Taken: return DiskTake::Taken;
        case hypervisor::DiskTake::Busy: return DiskTake::Busy;
        case hypervisor::DiskTake::Superseded: return DiskTake::Superseded;
        case hypervisor::DiskTake::Failed: return DiskTake::Failed;
    }
    return DiskTake::Failed;
}

}  // namespace

std::string_view to_string(Phase phase) {
    switch (phase) {
        case Phase::Connecting: return "connecting";
        case Phase::Copying: return "copying";
        case Phase::Switching: return "switching";
        case Phase::PostCopy: return "post_copy";
        case Phase::Waiting: return "waiting";
        case Phase::Undecided: return "undecided";
        case Phase::Completed: return "completed";
        case Phase::Failed: return "failed";
        case Phase::Cancelled: return "cancelled";
        case Phase::Superseded: return "superseded";
    }
    return "failed";
}

MigrationEnd::MigrationEnd(hypervisor::MigrationPort& port, const MigrationRequest& request,
                           HandoverJournal journal, Events events)
    : port_(port),
      request_(request),
      events_(std::move(events)),
      begun_ns_(port.clock().monotonic_ns()),
      journal_(std::move(journal)) {}

void MigrationEnd::connect(std::unique_ptr<StreamSocket> socket) {
    const unsigned number = ++links_;
    ControlLink::Events events;
    events.message = [this, number](Message message) { arrived(number, std::move(message)); };
    events.lost = [this, number](const Error& error) {
        post([this, number, error] {
            if (is_current(number)) {
                link_lost(error);
            }
        });
    };
    link_ = std::make_shared<ControlLink>(std::move(socket), port_.clock(), ControlLink::Times{},
                                          std::move(events));
}

void MigrationEnd::connect_again(std::unique_ptr<StreamSocket> socket) {
    if (connected_) {
        link_lost(Error::unavailable("there is a new connection"));
    }
    connect(std::move(socket));
    connected_ = true;
}

void MigrationEnd::post(std::function<void()> function) {
    port_.loop().post([life = std::weak_ptr<int>(life_), function = std::move(function)] {
        if (!life.expired()) {
            function();
        }
    });
}

void MigrationEnd::call_after(int64_t delay_ns, std::function<void()> function) {
    port_.loop().call_after(delay_ns,
                            [life = std::weak_ptr<int>(life_), function = std::move(function)] {
                                if (!life.expired()) {
                                    function();
                                }
                            });
}

void MigrationEnd::set_phase(Phase phase) {
    if (!ended() && phase != phase_) {
        phase_ = phase;
        events_.changed(status());
    }
}

void MigrationEnd::log_begun(std::string_view role) const {
    log_info("migration", "begun", {{"migration", request_.id.text()}, {"role", role}});
}

void MigrationEnd::log_end() const {
    log_info("migration", "ended",
             {{"migration", request_.id.text()},
              {"phase", to_string(phase_)},
              {"error", error_ ? error_->text() : ""}});
}

std::span<std::byte> MigrationEnd::memory_bytes() const {
    return {port_.memory().regions().front().host, port_.memory().size()};
}

Result<void> MigrationEnd::send_again() {
    Offer again;
    again.id = request_.id.bytes();
    again.epoch = request_.epoch;
    again.program = kVersion;
    return link_->send(MessageType::Again, again.encode());
}

bool MigrationEnd::record(HandoverMark mark) {
    auto recorded = journal_.record(mark);
    if (!recorded) {
        log_error("migration", "the journal cannot be written",
                  {{"migration", request_.id.text()}, {"error", recorded.error().text()}});
    }
    return recorded.ok();
}

DiskTake MigrationEnd::take_disks(const LeaseStep& step) {
    return disk_take(port_.take_disks(step.before, step.peer, step.after));
}

DiskTake MigrationEnd::hold_disks(uint64_t epoch) {
    return disk_take(port_.hold_disks(epoch));
}

void MigrationEnd::drop_disks() {
    port_.drop_disks();
}

void MigrationEnd::send(HandoverMessage message) {
    if (auto sent = link_->send(MessageType::Handover, encode_handover(message)); !sent) {
        log_debug("migration", "a word of the handover was lost",
                  {{"word", to_string(message)}, {"error", sent.error().text()}});
    }
}

}  // namespace kumoi::migration
