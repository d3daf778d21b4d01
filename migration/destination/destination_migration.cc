#include "migration/destination/destination_migration.h"

#include <fmt/ranges.h>

#include "base/log.h"
#include "base/version.h"
#include "hypervisor/control/protocol.h"

namespace kumoi::migration {

namespace {

constexpr unsigned kWaitingMax = 256;  // messages the loop has not come to

}  // namespace

Result<std::unique_ptr<DestinationMigration>> DestinationMigration::begin(
    hypervisor::MigrationPort& port, const MigrationRequest& request, Events events) {
    if (port.state() != hypervisor::VmState::Incoming) {
        return Error::conflict("the machine is {}, not made for a guest from elsewhere",
                               hypervisor::to_string(port.state()))
            .with_hint("start kumoi-vmm with --incoming");
    }
    TRY(port.own_disks(request.copied));
    auto sockets = TRY(take_connections(port.files(), request.connections));
    const HandoverTerms terms{
        .id = request.id.bytes(), .epoch = request.epoch, .role = HandoverRole::Destination};
    auto journal = TRY(take_journal(port.files(), request.journal, terms, port.clock()));
    TRY(port.warm_up());
    std::unique_ptr<DestinationMigration> migration(
        new DestinationMigration(port, request, std::move(journal), std::move(events)));
    TRY(migration->start(std::move(sockets)));
    return migration;
}

DestinationMigration::DestinationMigration(hypervisor::MigrationPort& port,
                                           const MigrationRequest& request, HandoverJournal journal,
                                           Events events)
    : MigrationEnd(port, request, std::move(journal), std::move(events)),
      handover_(*this, request.epoch),
      arriving_(std::make_shared<ReceivedState>()),
      missing_(port.memory().size() / kPage) {}

DestinationMigration::~DestinationMigration() {
    stop_posting();
    if (disks_) {
        disks_->stop();
    }
    receiver_.reset();
    link_.reset();
}

Result<void> DestinationMigration::begin_disks(PageReceiver::Events& events) {
    if (request_.copied.empty()) {
        return {};
    }
    std::vector<hypervisor::DiskImage*> images;
    for (const std::string& id : request_.copied) {
        images.push_back(TRY(port_.live_disk(id)));
    }
    disks_ = std::make_unique<DiskWriter>(std::move(images), port_.clock());
    events.disk_size = [writer = disks_.get()](uint64_t disk) -> Result<uint64_t> {
        if (disk >= writer->disks()) {
            return Error::make(ErrorCode::Corrupt, "disk {} came, of {}", disk, writer->disks());
        }
        return writer->size(disk);
    };
    events.disk = [writer = disks_.get()](uint64_t disk, std::span<const PageRun> runs,
                                          std::span<const std::byte> bytes) -> Result<void> {
        for (const PageRun& run : runs) {
            const uint64_t offset = run.first * kGranule;
            const uint64_t size = std::min(run.count * kGranule, writer->size(disk) - offset);
            std::vector<std::byte> piece;
            if (run.kind == RunKind::Data) {
                piece.assign(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
                bytes = bytes.subspan(size);
            }
            TRY(writer->write(disk, offset, size, std::move(piece)));
        }
        return {};
    };
    events.flush_disks = [writer = disks_.get()] { return writer->flush(); };
    return {};
}

Result<void> DestinationMigration::start(std::vector<std::unique_ptr<StreamSocket>> sockets) {
    auto control = std::move(sockets.front());
    sockets.erase(sockets.begin());
    PageReceiver::Events events;
    events.round_done = [this](uint32_t round) {
        post([this, round] {
            round_done_ = round;
            load_when_complete();
        });
    };
    events.failed = [this](const Error& error) {
        post([this, error] {
            if (!loaded_) {
                fail(error);
            }
        });
    };
    TRY(begin_disks(events));
    receiver_ =
        std::make_unique<PageReceiver>(std::move(sockets), memory_bytes(), std::move(events));
    connect(std::move(control));
    log_begun("destination");
    return {};
}

// Sections are put together here: the loop is asked once they are complete.
void DestinationMigration::arrived(unsigned link, Message message) {
    std::shared_ptr<ReceivedState> state;
    {
        const std::lock_guard lock(arriving_mutex_);
        if (waiting_messages_.load() > kWaitingMax) {
            post([this] { fail(Error::make(ErrorCode::TooLarge, "too many messages at once")); });
            return;
        }
        if (message.type == MessageType::Missing) {
            const auto runs = decode_runs(message.body, missing_.pages());
            if (!runs) {
                post([this, error = runs.error()] { fail(error); });
                return;
            }
            for (const PageRun& run : *runs) {
                missing_.set(run.first, run.count);
            }
            return;
        }
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
    ++waiting_messages_;
    post([this, link, message = std::move(message), state] {
        --waiting_messages_;
        if (is_current(link)) {
            this->message(message, state);
        }
    });
}

void DestinationMigration::message(const Message& message,
                                   const std::shared_ptr<ReceivedState>& state) {
    switch (message.type) {
        case MessageType::Offer: return take_offer(message.body);
        case MessageType::OfferEnd: return answer_offer(*state);
        case MessageType::State: return take_state(message.body, state);
        case MessageType::Again: return take_again(message.body);
        case MessageType::Handover:
            if (const auto word = decode_handover(message.body)) {
                return handover_word(*word);
            }
            return fail(Error::make(ErrorCode::Corrupt, "an unknown word of the handover came"));
        default: return;  // a destination's own words
    }
}

void DestinationMigration::take_offer(std::span<const std::byte> body) {
    auto offer = Offer::decode(body);
    if (!offer) {
        return fail(offer.error());
    }
    offer_ = std::move(*offer);
}

void DestinationMigration::check_disks(std::vector<std::string>& reasons) {
    if (offer_->disks.size() != request_.copied.size()) {
        reasons.push_back(fmt::format("{} disks come with the guest, {} were announced",
                                      offer_->disks.size(), request_.copied.size()));
        return;
    }
    if (!offer_->disks.empty() && offer_->post_copy) {
        reasons.push_back("disks cannot come along where post-copy is possible");
    }
    for (size_t number = 0; number < offer_->disks.size(); ++number) {
        const Offer::Disk& disk = offer_->disks[number];
        const auto here = port_.live_disk(request_.copied[number]);
        if (disk.id != request_.copied[number] || !here) {
            reasons.push_back(fmt::format("disk \"{}\" was not announced", disk.id));
        } else if (disk.size != (*here)->size()) {
            reasons.push_back(fmt::format("disk \"{}\" has {} bytes there, {} here", disk.id,
                                          disk.size, (*here)->size()));
        } else if (disk.backing != (*here)->has_backing()) {
            reasons.push_back(fmt::format("disk \"{}\" has {} backing file there, and {} here",
                                          disk.id, disk.backing ? "a" : "no",
                                          disk.backing ? "none" : "one"));
        }
    }
}

// All that speaks against it.
Result<void> DestinationMigration::check_offer(const ReceivedState& state) {
    if (!offer_) {
        return Error::make(ErrorCode::Corrupt, "the source offers nothing");
    }
    std::vector<std::string> reasons;
    if (offer_->protocol != kProtocolVersion) {
        reasons.push_back(
            fmt::format("the source (kumoi {}) speaks version {} of the protocol, we {}",
                        offer_->program, offer_->protocol, kProtocolVersion));
    }
    if (offer_->id != request_.id.bytes() || offer_->epoch != request_.epoch) {
        reasons.push_back("this is another migration than the one that was announced");
    }
    if (offer_->streams != request_.connections.size() - 1) {
        reasons.push_back(fmt::format("the source uses {} data streams, here are {}",
                                      offer_->streams, request_.connections.size() - 1));
    }
    if (offer_->memory_size != port_.memory().size()) {
        reasons.push_back(fmt::format("the guest's memory has {} bytes, this machine's {}",
                                      offer_->memory_size, port_.memory().size()));
    }
    check_disks(reasons);
    if (offer_->post_copy && !port_.may_serve_pages()) {
        reasons.push_back("memory cannot come after the guest here (post-copy)");
    }
    if (auto fits = port_.check(state.source()); !fits) {
        reasons.push_back(fits.error().message);
    }
    if (reasons.empty()) {
        return {};
    }
    return Error::unsupported("{}", fmt::join(reasons, "; "));
}

void DestinationMigration::answer_offer(const ReceivedState& state) {
    if (accepted_ || ended_) {
        return;
    }
    if (auto fits = check_offer(state); !fits) {
        if (auto sent = link_->send(MessageType::Declined, encode_text(fits.error().message));
            !sent) {
            log_debug("migration", "the refusal was lost", {{"error", sent.error().text()}});
        }
        return fail(fits.error());
    }
    accepted_ = true;
    set_phase(Phase::Copying);
    if (auto sent = link_->send(MessageType::Accepted, Acceptance{.delta = true}.encode()); !sent) {
        link_lost(sent.error());
    }
}

// A new connection: where do we stand?
void DestinationMigration::take_again(std::span<const std::byte> body) {
    const auto again = Offer::decode(body);
    if (!again || again->id != request_.id.bytes()) {
        log_warn("migration", "a connection of another migration came",
                 {{"migration", request_.id.text()}});
        link_->stop();
        return;
    }
    handover_.link_up();
    if (drained_) {
        memory_complete();
    }
    settle();
}

void DestinationMigration::take_state(std::span<const std::byte> body,
                                      std::shared_ptr<ReceivedState> state) {
    auto end = StateEnd::decode(body);
    if (!end) {
        return fail(end.error());
    }
    if (!accepted_ || state_end_ || end->sections != state->count()) {
        return fail(Error::make(ErrorCode::Corrupt, "{} of {} sections of the machine's state came",
                                state->count(), end->sections));
    }
    state_end_ = *end;
    state_ = std::move(state);
    set_phase(Phase::Switching);
    load_when_complete();
}

void DestinationMigration::load_when_complete() {
    if (loaded_ || ended_ || !state_end_ || round_done_ != state_end_->round) {
        return;
    }
    const int64_t begun = now();
    if (auto loaded = load(); !loaded) {
        return fail(loaded.error());
    }
    load_ns_ = now() - begun;
    loaded_ = true;
    if (prepare_came_) {
        handover_word(HandoverMessage::Prepare);
    }
}

Result<void> DestinationMigration::load() {
    if (state_end_->post_copy) {
        if (!offer_->post_copy || !receiver_->finished()) {
            return Error::make(ErrorCode::Corrupt, "post-copy was not agreed on");
        }
        auto source =
            std::make_unique<PeerSource>(receiver_->release_streams(), port_.memory().size());
        peer_ = source.get();
        hypervisor::PageBitmap missing;
        {
            const std::lock_guard lock(arriving_mutex_);
            missing = missing_;
        }
        TRY(port_.serve_pages(std::move(source), missing,
                              [this] { post([this] { memory_complete(); }); }));
    }
    return port_.load(state_->source());
}

void DestinationMigration::memory_complete() {
    drained_ = true;
    peer_ = nullptr;
    if (auto sent = link_->send(MessageType::Drained, {}); !sent) {
        log_info("migration", "that all memory came could not be said",
                 {{"error", sent.error().text()}});
    }
    settle();
}

void DestinationMigration::handover_word(HandoverMessage word) {
    if (word == HandoverMessage::Prepare && !loaded_) {
        prepare_came_ = true;
        return;
    }
    handover_.message(word);
    settle();
}

void DestinationMigration::fail(const Error& error) {
    if (ended_ || handover_.state() != DestinationState::Loading) {
        return;
    }
    error_ = error;
    handover_.fail();
    settle();
}

void DestinationMigration::link_lost(const Error& error) {
    if (ended_) {
        return;
    }
    link_->stop();
    connected_ = false;
    log_warn("migration", "the connection to the source broke",
             {{"migration", request_.id.text()}, {"error", error.text()}});
    if (!error_ && handover_.state() == DestinationState::Loading) {
        error_ = error;
    }
    if (peer_ != nullptr) {
        peer_->disconnect();
    }
    handover_.link_lost();
    settle();
}

void DestinationMigration::settle() {
    if (ended_) {
        return;
    }
    switch (handover_.state()) {
        case DestinationState::Loading: return;
        case DestinationState::Ready:
        case DestinationState::Parked:
            return set_phase(connected_ ? Phase::Waiting : Phase::Undecided);
        case DestinationState::Owner:
            if (state_end_->post_copy && !drained_) {
                return set_phase(Phase::PostCopy);
            }
            ended_ = true;
            phase_ = Phase::Completed;
            break;
        case DestinationState::Declined:
            ended_ = true;
            phase_ = Phase::Failed;
            break;
    }
    log_end();
    state_.reset();
    events_.changed(status());
    if (phase_ == Phase::Failed) {
        events_.finish();
    }
}

bool DestinationMigration::ended() const {
    return ended_;
}

Result<void> DestinationMigration::cancel() {
    return Error::unsupported("only the source can cancel a migration");
}

Result<void> DestinationMigration::force(const std::string& /*how*/) {
    return Error::unsupported("only the source can be told to finish");
}

Result<void> DestinationMigration::reconnect(std::vector<std::unique_ptr<StreamSocket>> sockets) {
    if (handover_.state() == DestinationState::Loading) {
        return Error::conflict("the migration has its connections");
    }
    connect_again(std::move(sockets.front()));
    if (peer_ != nullptr) {
        sockets.erase(sockets.begin());
        peer_->reconnect(std::move(sockets));
        port_.retry_pages();
    }
    settle();
    return {};
}

Result<void> DestinationMigration::verdict(const VerdictRequest& request) {
    TRY(request.apply(handover_));
    settle();
    return {};
}

Json DestinationMigration::status() const {
    Json json = Json::object({{"id", request_.id.text()},
                              {"role", "destination"},
                              {"phase", to_string(phase_)},
                              {"handover", to_string(handover_.state())},
                              {"epoch", handover_.epoch()},
                              {"load_ns", load_ns_},
                              {"elapsed_ns", now() - begun_ns_}});
    if (disks_) {
        json.set("disks", Json::object({{"written", disks_->bytes()}}));
    }
    json.set("memory", Json::object({{"total", port_.memory().size()},
                                     {"pages", receiver_ ? receiver_->pages() : 0},
                                     {"received", receiver_ ? receiver_->bytes() : 0}}));
    if (error_) {
        json.set("error", hypervisor::control_error_json(*error_));
    }
    return json;
}

void DestinationMigration::run_guest() {
    port_.run(state_end_->paused);
}

// The process goes, and everything with it.
void DestinationMigration::discard_guest() {}

}  // namespace kumoi::migration
