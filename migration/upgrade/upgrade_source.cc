#include "migration/upgrade/upgrade_source.h"

#include <algorithm>

#include "base/log.h"
#include "base/version.h"
#include "hypervisor/control/protocol.h"
#include "hypervisor/upgrade/heritage.h"
#include "migration/upgrade/upgrade_request.h"

namespace kumoi::migration {

using hypervisor::SectionWriter;

namespace {

constexpr int64_t kRetryNs = 2 * kNanosPerMilli;      // for disks that the other side gives free
constexpr int64_t kSilenceNs = 500 * kNanosPerMilli;  // while the guest stands still
constexpr int64_t kAnswerNs = 10 * kNanosPerSecond;   // to the offer, while it runs

Result<void> check_machine(hypervisor::MigrationPort& port) {
    if (port.heritage() == nullptr || port.heritage()->items().empty()) {
        return Error::unsupported("this process has nothing that another could go on with");
    }
    for (const hypervisor::NicConfig& nic : port.config().nics) {
        if (!nic.vhost_user.empty()) {
            return Error::unsupported(
                       "card {} is served by the process behind {}, which knows one kumoi-vmm at a "
                       "time",
                       nic.id, nic.vhost_user)
                .with_hint("migrate the guest instead, or restart it");
        }
    }
    return {};
}

}  // namespace

Result<std::unique_ptr<UpgradeSource>> UpgradeSource::begin(hypervisor::MigrationPort& port,
                                                            const MigrationRequest& request,
                                                            Events events) {
    TRY(check_machine(port));
    TRY(port.own_disks({}));
    TRY(port.may_begin());
    TRY(port.may_drop_disks(request.epoch));
    auto sockets = TRY(take_connections(port.files(), request.connections));
    const HandoverTerms terms{.id = request.id.bytes(), .epoch = request.epoch};
    auto journal = TRY(take_journal(port.files(), request.journal, terms, port.clock()));
    std::unique_ptr<UpgradeSource> upgrade(
        new UpgradeSource(port, request, std::move(journal), std::move(events)));
    TRY(upgrade->start(std::move(sockets.front())));
    return upgrade;
}

UpgradeSource::UpgradeSource(hypervisor::MigrationPort& port, const MigrationRequest& request,
                             HandoverJournal journal, Events events)
    : MigrationEnd(port, request, std::move(journal), std::move(events)),
      handover_(*this, request.epoch) {
    port_.set_same_host(true);
}

UpgradeSource::~UpgradeSource() {
    stop_posting();
    link_.reset();
    port_.set_same_host(false);
}

// The other side sees the whole state and can refuse before the guest is stopped in earnest.
Result<void> UpgradeSource::start(std::unique_ptr<StreamSocket> socket) {
    stopped_ns_ = now();
    TRY(port_.stop());
    connect(std::move(socket));
    post([this] { rehearse(); });  // what the guest asked for just before comes first
    log_begun("source of an upgrade");
    return {};
}

void UpgradeSource::rehearse() {
    if (ended()) {
        return port_.go_on();
    }
    auto sections = state();
    port_.go_on();
    rehearsal_ns_ = now() - stopped_ns_;
    auto offered = sections ? offer(*sections) : Result<void>(sections.error());
    if (!offered) {
        return fail(offered.error());
    }
    call_after(kAnswerNs, [this] {
        if (phase_ == Phase::Connecting) {
            fail(Error::timeout("the newer process does not answer"));
        }
    });
}

Result<std::vector<SectionWriter>> UpgradeSource::state() const {
    hypervisor::Heritage& heritage = *port_.heritage();
    heritage.set_memory_stays(true);
    auto sections = port_.take_state();
    heritage.set_memory_stays(false);
    if (sections) {
        sections->push_back(TRY(MemoryIdentity::of(port_.memory().fd())).save());
    }
    return sections;
}

Result<void> UpgradeSource::send_sections(const std::vector<SectionWriter>& sections) {
    for (const SectionWriter& section : sections) {
        TRY(link_->send(MessageType::Section, encode_section(section)));
    }
    return {};
}

Result<void> UpgradeSource::offer(const std::vector<SectionWriter>& sections) {
    Offer offer;
    offer.id = request_.id.bytes();
    offer.epoch = request_.epoch;
    offer.memory_size = port_.memory().size();
    offer.program = kVersion;
    offer.shape = port_.shape_digest();
    TRY(link_->send(MessageType::Offer, offer.encode()));
    TRY(send_sections(sections));
    return link_->send(MessageType::OfferEnd, {});
}

void UpgradeSource::arrived(unsigned link, Message message) {
    post([this, link, message = std::move(message)] {
        if (is_current(link)) {
            this->message(message);
        }
    });
}

void UpgradeSource::message(const Message& message) {
    switch (message.type) {
        case MessageType::Accepted: return stop_machine();
        case MessageType::Declined:
            return fail(Error::unsupported("the newer process cannot take the guest: {}",
                                           decode_text(message.body)));
        case MessageType::Handover: {
            const auto word = decode_handover(message.body);
            if (!word) {
                return link_lost(word.error());
            }
            if (*word == HandoverMessage::Refused && !error_ && !cancel_asked_) {
                error_ = Error::unavailable("the newer process gave the guest up");
            }
            handover_.message(*word);
            return settle();
        }
        default: return;  // a source's own words
    }
}

void UpgradeSource::stop_machine() {
    if (ended() || phase_ != Phase::Connecting || handover_.state() != SourceState::Copying) {
        return;
    }
    port_.write_back_disks();
    set_phase(Phase::Switching);
    stopped_ns_ = now();
    if (auto stopped = port_.stop(); !stopped) {
        return fail(stopped.error());
    }
    post([this] { hand_over(); });
}

void UpgradeSource::hand_over() {
    if (ended() || !port_.stopped() || handover_.state() != SourceState::Copying) {
        return;
    }
    if (auto sent = send_state(); !sent) {
        return fail(sent.error());
    }
    const int64_t begun = now();
    handover_.freeze();
    drop_ns_ = now() - begun;
    call_after(kSilenceNs, [this, since = stopped_ns_] { patience_is_over(since); });
    settle();
}

Result<void> UpgradeSource::send_state() {
    const auto sections = TRY(state());
    TRY(send_sections(sections));
    StateEnd end;
    end.sections = static_cast<uint32_t>(sections.size());
    end.paused = port_.paused_by_operator();
    save_ns_ = now() - stopped_ns_;
    return link_->send(MessageType::State, end.encode());
}

// Before the commit the guest can be had back at any instant.
void UpgradeSource::patience_is_over(int64_t since_ns) {
    if (ended() || stopped_ns_ != since_ns || handover_.state() != SourceState::Frozen) {
        return;
    }
    error_ = Error::timeout("the newer process was silent for {} ms while the guest stood still",
                            kSilenceNs / kNanosPerMilli);
    handover_.cancel();
    settle();
}

void UpgradeSource::link_lost(const Error& error) {
    if (ended()) {
        return;
    }
    link_->stop();
    connected_ = false;
    if (!error_ && !cancel_asked_ && handover_.state() != SourceState::Committed) {
        error_ = error;
    }
    log_warn("migration", "the connection to the newer process broke",
             {{"migration", request_.id.text()}, {"error", error.text()}});
    handover_.link_lost();
    settle();
}

// Before the handover began.
void UpgradeSource::fail(const Error& error) {
    if (ended() || handover_.state() != SourceState::Copying) {
        return;
    }
    if (!error_ && !cancel_asked_) {
        error_ = error;
    }
    handover_.cancel();
    settle();
}

void UpgradeSource::settle() {
    if (ended()) {
        return;
    }
    switch (handover_.state()) {
        case SourceState::Copying:
        case SourceState::Frozen: return;
        case SourceState::Kept:
            port_.go_on();
            return end(cancel_asked_ ? Phase::Cancelled : Phase::Failed);
        case SourceState::Released: return end(Phase::Completed);
        case SourceState::Superseded: return end(Phase::Superseded);
        case SourceState::Returning:
        case SourceState::Retaking: return come_back();
        case SourceState::Undecided:
        case SourceState::Committed:
            return set_phase(connected_ ? Phase::Waiting : Phase::Undecided);
    }
}

void UpgradeSource::come_back() {
    handover_.retry();
    const SourceState state = handover_.state();
    if (state != SourceState::Returning && state != SourceState::Retaking) {
        return settle();
    }
    call_after(kRetryNs, [this] { settle(); });
}

void UpgradeSource::end(Phase phase) {
    phase_ = phase;
    ended_ns_ = now();
    if (phase == Phase::Superseded || phase == Phase::Completed) {
        port_.moved();
    }
    if (link_ && phase != Phase::Completed) {
        link_->stop();
    }
    port_.set_same_host(false);
    log_end();
    events_.changed(status());
    if (phase == Phase::Completed) {
        events_.finish();
    }
}

Result<void> UpgradeSource::cancel() {
    if (ended()) {
        return Error::conflict("the upgrade has ended: {}", to_string(phase_));
    }
    if (!handover_.cancel()) {
        return Error::conflict("the guest has been given away; it is too late to cancel")
            .with_hint("it runs in the newer process, or waits for it");
    }
    cancel_asked_ = true;
    error_.reset();
    settle();
    return {};
}

Result<void> UpgradeSource::force(const std::string& /*how*/) {
    return Error::unsupported("an upgrade copies no memory that could be left out");
}

Result<void> UpgradeSource::reconnect(std::vector<std::unique_ptr<StreamSocket>> sockets) {
    const SourceState state = handover_.state();
    if (ended() && state != SourceState::Kept) {
        return Error::conflict("the upgrade has ended: {}", to_string(phase_));
    }
    if (state == SourceState::Copying) {
        return Error::conflict("the upgrade has its connection");
    }
    connect_again(std::move(sockets.front()));
    settle();
    return send_again();
}

Result<void> UpgradeSource::verdict(const VerdictRequest& request) {
    TRY(request.apply(handover_));
    settle();
    return {};
}

Json UpgradeSource::status() const {
    Json json = Json::object({{"id", request_.id.text()},
                              {"role", "source"},
                              {"kind", "upgrade"},
                              {"phase", to_string(phase_)},
                              {"handover", to_string(handover_.state())},
                              {"epoch", handover_.epoch()},
                              {"connected", connected_},
                              {"elapsed_ns", (ended() ? ended_ns_ : now()) - begun_ns_},
                              {"rehearsal_ns", rehearsal_ns_},
                              {"save_ns", save_ns_},
                              {"drop_ns", drop_ns_},
                              {"downtime_ns", downtime_ns_},
                              {"downtime_ms", downtime_ns_ / kNanosPerMilli}});
    if (error_) {
        json.set("error", hypervisor::control_error_json(*error_));
    }
    return json;
}

void UpgradeSource::run_guest() {
    port_.go_on();
}

void UpgradeSource::discard_guest() {
    downtime_ns_ = now() - stopped_ns_;
}

}  // namespace kumoi::migration
