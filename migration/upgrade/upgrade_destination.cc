#include "migration/upgrade/upgrade_destination.h"

#include <fmt/ranges.h>

#include "base/log.h"
#include "hypervisor/control/protocol.h"
#include "hypervisor/upgrade/heritage.h"
#include "migration/upgrade/upgrade_request.h"

namespace kumoi::migration {

Result<std::unique_ptr<UpgradeDestination>> UpgradeDestination::begin(
    hypervisor::MigrationPort& port, const MigrationRequest& request, Events events) {
    const hypervisor::Heritage* heritage = port.heritage();
    if (port.state() != hypervisor::VmState::Incoming || heritage == nullptr ||
        !heritage->is_heir()) {
        return Error::conflict("the machine is not made from an older process's")
            .with_hint("start kumoi-vmm with --upgrade-of");
    }
    TRY(port.own_disks({}));
    auto sockets = TRY(take_connections(port.files(), request.connections));
    const HandoverTerms terms{
        .id = request.id.bytes(), .epoch = request.epoch, .role = HandoverRole::Destination};
    auto journal = TRY(take_journal(port.files(), request.journal, terms, port.clock()));
    TRY(port.warm_up());
    std::unique_ptr<UpgradeDestination> upgrade(
        new UpgradeDestination(port, request, std::move(journal), std::move(events)));
    upgrade->connect(std::move(sockets.front()));
    upgrade->log_begun("destination of an upgrade");
    return upgrade;
}

UpgradeDestination::UpgradeDestination(hypervisor::MigrationPort& port,
                                       const MigrationRequest& request, HandoverJournal journal,
                                       Events events)
    : MigrationEnd(port, request, std::move(journal), std::move(events)),
      handover_(*this, request.epoch),
      arriving_(std::make_shared<ReceivedState>()) {
    port_.set_same_host(true);
}

UpgradeDestination::~UpgradeDestination() {
    stop_posting();
    link_.reset();
    port_.set_same_host(false);
}

// Sections are put together here: the loop is asked once they are complete.
void UpgradeDestination::arrived(unsigned link, Message message) {
    std::shared_ptr<ReceivedState> state;
    {
        const std::lock_guard lock(arriving_mutex_);
        if (message.type == MessageType::Section) {
            if (auto added = arriving_->add(message.body); !added) {
                post([this, error = added.error()] { fail(error); });
            }
            return;
        }
        if (message.type == MessageType::OfferEnd || message.type == MessageType::State) {
            state = std::exchange(arriving_, std::make_shared<ReceivedState>());
        }
    }
    post([this, link, message = std::move(message), state] {
        if (is_current(link)) {
            this->message(message, state.get());
        }
    });
}

void UpgradeDestination::message(const Message& message, const ReceivedState* state) {
    switch (message.type) {
        case MessageType::Offer: {
            auto offer = Offer::decode(message.body);
            if (!offer) {
                return fail(offer.error());
            }
            offer_ = std::move(*offer);
            return;
        }
        case MessageType::OfferEnd: return answer_offer(*state);
        case MessageType::State: return take_state(message.body, *state);
        case MessageType::Again: return take_again(message.body);
        case MessageType::Handover: return handover_word(message.body);
        default: return;  // a destination's own words
    }
}

// All that speaks against it.
Result<void> UpgradeDestination::check_offer(const ReceivedState& state) {
    if (!offer_) {
        return Error::make(ErrorCode::Corrupt, "the older process offers nothing");
    }
    std::vector<std::string> reasons;
    if (offer_->protocol != kProtocolVersion) {
        reasons.push_back(
            fmt::format("the older process (kumoi {}) speaks version {} of the protocol, we {}",
                        offer_->program, offer_->protocol, kProtocolVersion));
    }
    if (offer_->id != request_.id.bytes() || offer_->epoch != request_.epoch) {
        reasons.push_back("this is another upgrade than the one that was announced");
    }
    if (auto section = state.section(std::string(MemoryIdentity::kSection)); !section) {
        reasons.push_back("what comes is no upgrade");
    } else if (TRY(MemoryIdentity::load(*section)) !=
               TRY(MemoryIdentity::of(port_.memory().fd()))) {
        reasons.push_back("the guest's memory is not the one that was inherited");
    }
    if (offer_->shape != port_.shape_digest()) {
        reasons.push_back("the two machines do not have the same devices");
    }
    if (auto fits = port_.check(state.source()); !fits) {
        reasons.push_back(fits.error().message);
    }
    if (reasons.empty()) {
        return {};
    }
    return Error::unsupported("{}", fmt::join(reasons, "; "));
}

void UpgradeDestination::answer_offer(const ReceivedState& state) {
    if (accepted_ || ended_) {
        return;
    }
    auto fits = check_offer(state);
    auto sent = fits ? link_->send(MessageType::Accepted, {})
                     : link_->send(MessageType::Declined, encode_text(fits.error().message));
    if (!fits) {
        return fail(fits.error());
    }
    accepted_ = true;
    set_phase(Phase::Copying);
    if (!sent) {
        link_lost(sent.error());
    }
}

void UpgradeDestination::take_state(std::span<const std::byte> body, const ReceivedState& state) {
    const auto end = StateEnd::decode(body);
    if (ended_) {
        return;
    }
    if (!end || !accepted_ || state_end_ || end->sections != state.count()) {
        return fail(Error::make(ErrorCode::Corrupt, "{} sections of the machine's state came",
                                state.count()));
    }
    set_phase(Phase::Switching);
    const int64_t begun = now();
    if (auto loaded = port_.load(state.source()); !loaded) {
        return fail(loaded.error());
    }
    load_ns_ = now() - begun;
    state_end_ = *end;
}

// A new connection: where do we stand?
void UpgradeDestination::take_again(std::span<const std::byte> body) {
    const auto again = Offer::decode(body);
    if (!again || again->id != request_.id.bytes()) {
        log_warn("migration", "a connection of another upgrade came",
                 {{"migration", request_.id.text()}});
        link_->stop();
        return;
    }
    handover_.link_up();
    settle();
}

void UpgradeDestination::handover_word(std::span<const std::byte> body) {
    const auto word = decode_handover(body);
    if (!word) {
        return fail(Error::make(ErrorCode::Corrupt, "an unknown word of the handover came"));
    }
    if (*word == HandoverMessage::Prepare && !state_end_) {
        return fail(Error::make(ErrorCode::Corrupt, "the guest was to run before its state came"));
    }
    handover_.message(*word);
    settle();
}

void UpgradeDestination::fail(const Error& error) {
    if (ended_ || handover_.state() != DestinationState::Loading) {
        return;
    }
    error_ = error;
    handover_.fail();
    settle();
}

void UpgradeDestination::link_lost(const Error& error) {
    if (ended_) {
        return;
    }
    link_->stop();
    connected_ = false;
    log_warn("migration", "the connection to the older process broke",
             {{"migration", request_.id.text()}, {"error", error.text()}});
    if (!error_ && handover_.state() == DestinationState::Loading) {
        error_ = error;
    }
    handover_.link_lost();
    settle();
}

void UpgradeDestination::settle() {
    if (ended_) {
        return;
    }
    switch (handover_.state()) {
        case DestinationState::Loading: return;
        case DestinationState::Ready:
        case DestinationState::Parked:
            return set_phase(connected_ ? Phase::Waiting : Phase::Undecided);
        case DestinationState::Owner: phase_ = Phase::Completed; break;
        case DestinationState::Declined: phase_ = Phase::Failed; break;
    }
    ended_ = true;
    port_.set_same_host(false);
    log_end();
    events_.changed(status());
    if (phase_ == Phase::Failed) {
        events_.finish();
    }
}

Result<void> UpgradeDestination::cancel() {
    return Error::unsupported("only the older process can cancel an upgrade");
}

Result<void> UpgradeDestination::force(const std::string& /*how*/) {
    return Error::unsupported("only the older process can be told to finish");
}

Result<void> UpgradeDestination::reconnect(std::vector<std::unique_ptr<StreamSocket>> sockets) {
    if (handover_.state() == DestinationState::Loading) {
        return Error::conflict("the upgrade has its connection");
    }
    connect_again(std::move(sockets.front()));
    settle();
    return {};
}

Result<void> UpgradeDestination::verdict(const VerdictRequest& request) {
    TRY(request.apply(handover_));
    settle();
    return {};
}

Json UpgradeDestination::status() const {
    Json json = Json::object({{"id", request_.id.text()},
                              {"role", "destination"},
                              {"kind", "upgrade"},
                              {"phase", to_string(phase_)},
                              {"handover", to_string(handover_.state())},
                              {"epoch", handover_.epoch()},
                              {"load_ns", load_ns_},
                              {"elapsed_ns", now() - begun_ns_}});
    if (error_) {
        json.set("error", hypervisor::control_error_json(*error_));
    }
    return json;
}

void UpgradeDestination::run_guest() {
    port_.run(state_end_->paused);
}

}  // namespace kumoi::migration
