#include "migration/source/source_migration.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/version.h"
#include "hypervisor/control/protocol.h"
#include "migration/policy/dirty_limit.h"

namespace kumoi::migration {

using hypervisor::SectionWriter;

namespace {

constexpr int64_t kRetryNs = 2 * kNanosPerMilli;  // for disks that the other side is giving free
constexpr int64_t kTellNs = kNanosPerSecond;

}  // namespace

Result<std::unique_ptr<SourceMigration>> SourceMigration::begin(hypervisor::MigrationPort& port,
                                                                const MigrationRequest& request,
                                                                Events events) {
    TRY(port.own_disks(request.copied));
    TRY(port.may_begin());
    TRY(port.may_drop_disks(request.epoch));
    if (request.dirty_limit != 0 && !port.writers_are_known()) {
        return Error::unsupported("which vCPU writes is not known, so none can be limited")
            .with_hint(
                "set \"dirty_tracking\" of the guest to \"ring\", or leave out "
                "dirty_limit_bytes_s: all vCPUs are slowed down then");
    }
    auto sockets = TRY(take_connections(port.files(), request.connections));
    const HandoverTerms terms{.id = request.id.bytes(), .epoch = request.epoch};
    auto journal = TRY(take_journal(port.files(), request.journal, terms, port.clock()));
    std::unique_ptr<SourceMigration> migration(
        new SourceMigration(port, request, std::move(journal), std::move(events)));
    TRY(migration->start(std::move(sockets)));
    return migration;
}

SourceMigration::SourceMigration(hypervisor::MigrationPort& port, const MigrationRequest& request,
                                 HandoverJournal journal, Events events)
    : MigrationEnd(port, request, std::move(journal), std::move(events)),
      handover_(*this, request.epoch) {}

SourceMigration::~SourceMigration() {
    stop_posting();
    if (job_) {
        job_->cancel();
    }
    if (link_) {
        link_->stop();
    }
    job_.reset();
    link_.reset();
    if (logging_) {
        port_.end_logging();
    }
}

// Everything from here on is seen; then the machine stands still for a moment, for a rehearsal: the
// other side sees its whole state and can refuse before a byte of memory is sent, and we know how
// long that takes.
Result<void> SourceMigration::start(std::vector<std::unique_ptr<StreamSocket>> sockets) {
    TRY(port_.begin_logging());
    logging_ = true;
    dirtied_ns_ = now();
    if (port_.writers_are_known()) {
        dirtied_ = TRY(port_.dirtied_pages());
    }
    slowdown_.begin(dirtied_ns_, port_.rested_ns());
    connect(std::move(sockets.front()));
    sockets.erase(sockets.begin());
    stopped_ns_ = now();
    slowdown_.stopped(stopped_ns_);
    if (auto stopped = port_.stop(); !stopped) {
        port_.end_logging();
        logging_ = false;
        return stopped;
    }
    // What the guest asked for just before comes first.
    post([this, held = std::make_shared<decltype(sockets)>(std::move(sockets))] {
        rehearse(std::move(*held));
    });
    log_begun("source");
    tell_later();
    return {};
}

void SourceMigration::rehearse(std::vector<std::unique_ptr<StreamSocket>> sockets) {
    auto sections = port_.take_state();
    const int64_t took = now() - stopped_ns_;
    Result<void> begun;
    if (!ended()) {
        begun = sections ? make_job(std::move(sockets)) : Result<void>(sections.error());
    }
    let_go_on();
    if (ended()) {
        return;
    }
    if (!begun) {
        return job_failed(begun.error());
    }
    Offer offer;
    offer.id = request_.id.bytes();
    offer.epoch = request_.epoch;
    offer.memory_size = port_.memory().size();
    offer.streams = static_cast<uint32_t>(request_.connections.size() - 1);
    offer.program = kVersion;
    offer.post_copy = request_.post_copy;
    for (const std::string& id : request_.copied) {
        hypervisor::LiveDisk* disk = port_.live_disk(id).value();
        offer.disks.push_back({id, disk->size(), disk->has_backing()});
    }
    offer.shape = port_.shape_digest();
    job_->start(std::move(offer), std::move(*sections), took);
}

// While the machine stands still: changes of its disks are seen from here on.
Result<void> SourceMigration::make_job(std::vector<std::unique_ptr<StreamSocket>> sockets) {
    std::shared_ptr<DiskCopy> disks;
    if (!request_.copied.empty()) {
        std::vector<DiskCopy::Disk> copied;
        for (const std::string& id : request_.copied) {
            hypervisor::LiveDisk* image = TRY(port_.live_disk(id));
            copied.push_back({id, image});
        }
        disks = std::make_shared<DiskCopy>(std::move(copied), sockets.size());
        TRY(disks->begin());
    }
    hypervisor::GuestMemory& memory = port_.memory();
    hypervisor::DirtyLog& log = port_.dirty_log();
    PageSender::Memory pages;
    pages.bytes = memory_bytes();
    pages.fd = memory.huge_pages() ? -1 : memory.fd();
    pages.rearm = [&log](uint64_t first, uint64_t count) { return log.rearm(first, count); };
    CopyJob::Options options = request_.options;
    options.goal.limits_writers = port_.writers_are_known();
    CopyJob::Parts parts{std::move(pages), log, link_, std::move(sockets), port_.clock(), disks};
    parts.hints = request_.free_page_hints ? port_.free_page_hints() : nullptr;
    job_ = std::make_unique<CopyJob>(std::move(parts), options, job_events());
    return {};
}

CopyJob::Events SourceMigration::job_events() {
    CopyJob::Events events;
    events.accepted = [this] { post([this] { set_phase(Phase::Copying); }); };
    events.stop_wanted = [this] { post([this] { stop_machine(); }); };
    events.go_on_wanted = [this] { post([this] { machine_goes_on(); }); };
    events.throttle_wanted = [this](unsigned percent) {
        post([this, percent] { slow_down(percent); });
    };
    events.all_sent = [this](bool post_copy) { post([this, post_copy] { all_sent(post_copy); }); };
    events.failed = [this](const Error& error) { post([this, error] { job_failed(error); }); };
    return events;
}

void SourceMigration::arrived(unsigned link, Message message) {
    post([this, link, message = std::move(message)] {
        if (is_current(link)) {
            this->message(message);
        }
    });
}

void SourceMigration::message(const Message& message) {
    switch (message.type) {
        case MessageType::Accepted: return accepted(message.body);
        case MessageType::Declined:
            return job_failed(Error::unsupported("the destination cannot take the guest: {}",
                                                 decode_text(message.body)));
        case MessageType::Handover: {
            const auto word = decode_handover(message.body);
            if (!word) {
                return link_lost(word.error());
            }
            if (*word == HandoverMessage::Refused && !error_ && !cancel_asked_) {
                error_ = Error::unavailable("the destination gave the guest up");
            }
            handover_.message(*word);
            return settle();
        }
        case MessageType::Drained:
            drained_ = true;  // perhaps before the handover has ended
            return settle();
        default: return;  // a source's own words
    }
}

void SourceMigration::accepted(std::span<const std::byte> body) {
    const auto acceptance = Acceptance::decode(body);
    if (!acceptance) {
        return link_lost(acceptance.error());
    }
    if (job_) {
        job_->accept(*acceptance);
    }
}

void SourceMigration::link_lost(const Error& error) {
    if (ended()) {
        return;
    }
    link_->stop();
    connected_ = false;
    if (!error_ && !cancel_asked_ && handover_.state() != SourceState::Committed) {
        error_ = error;
    }
    log_warn("migration", "the connection to the destination broke",
             {{"migration", request_.id.text()}, {"error", error.text()}});
    if (job_) {
        job_->cancel();
    }
    handover_.link_lost();
    settle();
}

void SourceMigration::stop_machine() {
    if (ended() || handover_.state() != SourceState::Copying) {
        return;
    }
    if (!port_.stopped()) {
        stopped_ns_ = now();
        slowdown_.stopped(stopped_ns_);
        if (auto stopped = port_.stop(); !stopped) {
            return job_failed(stopped.error());
        }
    }
    set_phase(Phase::Switching);
    job_->stopped();
    post([this] { take_state(); });  // what the guest asked for just before comes first
}

void SourceMigration::take_state() {
    if (ended() || !port_.stopped() || handover_.state() != SourceState::Copying) {
        return;
    }
    auto sections = port_.take_state();
    if (!sections) {
        return job_failed(sections.error());
    }
    job_->state(std::move(*sections), port_.paused_by_operator());
}

void SourceMigration::machine_goes_on() {
    if (ended() || handover_.state() != SourceState::Copying) {
        return;
    }
    let_go_on();
    set_phase(Phase::Copying);
}

void SourceMigration::let_go_on() {
    port_.go_on();
    slowdown_.goes_on(now(), port_.vcpus());
}

// Where it is known who writes, the writers are held and nobody else is.
void SourceMigration::slow_down(unsigned percent) {
    if (ended() || !port_.writers_are_known()) {
        port_.throttle(ended() ? 0 : percent);
        return;
    }
    auto limit = limit_for(percent);
    auto set = limit ? port_.limit_dirty(*limit) : Result<void>(limit.error());
    if (!set) {  // the ring ran over: the job hears of it, too
        log_warn("migration", "no vCPU is limited", {{"error", set.error().text()}});
        return;
    }
    dirty_limit_ = *limit;
}

Result<uint64_t> SourceMigration::limit_for(unsigned percent) {
    const auto pages = TRY(port_.dirtied_pages());
    const int64_t since = now() - std::exchange(dirtied_ns_, now());
    std::vector<uint64_t> rates;
    dirtied_.resize(pages.size());  // a vCPU may be new
    for (size_t vcpu = 0; vcpu < pages.size(); ++vcpu) {
        const auto bytes = static_cast<double>((pages[vcpu] - dirtied_[vcpu]) * kPage);
        rates.push_back(static_cast<uint64_t>(bytes * static_cast<double>(kNanosPerSecond) /
                                              static_cast<double>(std::max<int64_t>(since, 1))));
    }
    dirtied_ = pages;
    const uint64_t limit =
        dirty_limit(rates, dirty_allowance(percent, job_->figures().advice.bandwidth));
    return request_.dirty_limit == 0 ? limit : std::min(limit, request_.dirty_limit);
}

void SourceMigration::all_sent(bool post_copy) {
    if (ended()) {
        return;
    }
    if (post_copy) {  // asked for as soon as the state is loaded, before the handover ends
        service_ = std::make_unique<PageService>(job_->release_streams(), memory_bytes());
    }
    handover_.freeze();
    settle();
}

// Before the handover began; afterwards the job has ended.
void SourceMigration::job_failed(const Error& error) {
    if (ended() || handover_.state() != SourceState::Copying) {
        return;
    }
    if (!error_ && !cancel_asked_) {
        error_ = error;
    }
    handover_.cancel();
    settle();
}

void SourceMigration::settle() {
    if (ended()) {
        return;
    }
    switch (handover_.state()) {
        case SourceState::Copying: return;
        case SourceState::Kept:
            let_go_on();
            return end(cancel_asked_ ? Phase::Cancelled : Phase::Failed);
        case SourceState::Released:
            return service_ && !drained_ ? serve_pages() : end(Phase::Completed);
        case SourceState::Superseded: return end(Phase::Superseded);
        case SourceState::Returning:
        case SourceState::Retaking: return come_back();
        case SourceState::Frozen: return;
        case SourceState::Undecided:
        case SourceState::Committed:
            return set_phase(connected_ ? Phase::Waiting : Phase::Undecided);
    }
}

// It runs there, and its memory is still here.
void SourceMigration::serve_pages() {
    if (phase_ == Phase::PostCopy) {
        return;
    }
    if (std::exchange(logging_, false)) {
        port_.end_logging();
    }
    port_.moved();
    set_phase(Phase::PostCopy);
}

void SourceMigration::come_back() {
    handover_.retry();
    const SourceState state = handover_.state();
    if (state != SourceState::Returning && state != SourceState::Retaking) {
        return settle();
    }
    call_after(kRetryNs, [this] { settle(); });
}

void SourceMigration::end(Phase phase) {
    phase_ = phase;
    ended_ns_ = now();
    service_.reset();
    if ((phase == Phase::Superseded || phase == Phase::Completed) &&
        port_.state() != hypervisor::VmState::Moved) {
        port_.moved();
    }
    if (job_) {
        job_->cancel();
    }
    if (link_ && phase != Phase::Completed) {
        link_->stop();
    }
    if (std::exchange(logging_, false)) {
        port_.end_logging();
    }
    leave_alone();
    log_end();
    events_.changed(status());
}

void SourceMigration::leave_alone() {
    slowdown_.end(now(), port_.rested_ns(), port_.vcpus());
    port_.throttle(0);
    if (dirty_limit_ != 0) {
        (void)port_.limit_dirty(0);  // lifting it is never refused
    }
}

void SourceMigration::tell_later() {
    call_after(kTellNs, [this] {
        if (!ended()) {
            events_.changed(status());
            tell_later();
        }
    });
}

bool SourceMigration::ended() const {
    return ended_ns_ != 0;
}

Result<void> SourceMigration::cancel() {
    if (ended()) {
        return Error::conflict("the migration has ended: {}", to_string(phase_));
    }
    if (!handover_.cancel()) {
        return Error::conflict("the guest has been given away; it is too late to cancel")
            .with_hint("it runs on the destination, or waits for it");
    }
    cancel_asked_ = true;
    error_.reset();
    settle();
    return {};
}

Result<void> SourceMigration::force(const std::string& how) {
    if (how != "pause" && how != "post_copy") {
        return Error::invalid("params.how: \"{}\" is not \"pause\" or \"post_copy\"", how);
    }
    if (how == "post_copy" && !request_.post_copy) {
        return Error::conflict("the migration was begun without post-copy")
            .with_hint("begin it with options.post_copy \"allowed\" or \"automatic\"");
    }
    if (phase_ != Phase::Copying) {
        return Error::conflict("the migration is {}, not copying", to_string(phase_));
    }
    if (how == "post_copy") {
        job_->force_post_copy();
        return {};
    }
    job_->force();
    stop_machine();
    return {};
}

Result<void> SourceMigration::reconnect(std::vector<std::unique_ptr<StreamSocket>> sockets) {
    const SourceState state = handover_.state();
    if (ended() && state != SourceState::Released && state != SourceState::Kept) {
        return Error::conflict("the migration has ended: {}", to_string(phase_));
    }
    if (state == SourceState::Copying) {
        return Error::conflict("the migration has its connections");
    }
    connect_again(std::move(sockets.front()));
    if (service_) {
        sockets.erase(sockets.begin());
        service_ = std::make_unique<PageService>(std::move(sockets), memory_bytes());
    }
    settle();
    return send_again();
}

Result<void> SourceMigration::verdict(const VerdictRequest& request) {
    TRY(request.apply(handover_));
    settle();
    return {};
}

Json SourceMigration::status() const {
    Json json = Json::object({{"id", request_.id.text()},
                              {"role", "source"},
                              {"phase", to_string(phase_)},
                              {"handover", to_string(handover_.state())},
                              {"epoch", handover_.epoch()},
                              {"connected", connected_},
                              {"elapsed_ns", (ended() ? ended_ns_ : now()) - begun_ns_}});
    const CopyJob::Figures figures = job_ ? job_->figures() : CopyJob::Figures{};
    json.set("memory", Json::object({{"total", figures.total},
                                     {"processed", figures.total - figures.remaining},
                                     {"remaining", figures.remaining},
                                     {"pages", figures.pages},
                                     {"zero_pages", figures.zero_pages},
                                     {"free_pages", figures.free_pages},
                                     {"delta_pages", figures.delta_pages},
                                     {"unchanged_pages", figures.same_pages},
                                     {"packed_frames", figures.packed_frames},
                                     {"sent", figures.sent}}));
    const Convergence::Advice& advice = figures.advice;
    json.set("disks", Json::object({{"total", figures.disk_total},
                                    {"processed", figures.disk_total - figures.disk_remaining},
                                    {"remaining", figures.disk_remaining}}));
    json.set("round", figures.round);
    json.set("dirty_rate_bytes_s", advice.dirty_rate);
    json.set("bandwidth_bytes_s", advice.bandwidth);
    json.set("throttle_percent", dirty_limit_ == 0 ? advice.throttle : 0);
    json.set("dirty_limit_bytes_s", dirty_limit_);
    const auto slowdown = slowdown_.figures(now(), port_.rested_ns(), port_.vcpus());
    json.set("vcpu_lost_ms", slowdown.lost_ns / kNanosPerMilli);
    json.set("guest_slowdown_percent", slowdown.percent);
    json.set("expected_downtime_ms", advice.expected_downtime_ns / kNanosPerMilli);
    json.set("remaining_ms", advice.remaining_ns < 0 ? -1 : advice.remaining_ns / kNanosPerMilli);
    json.set("downtime_ns", downtime_ns_);
    json.set("downtime_ms", downtime_ns_ / kNanosPerMilli);
    json.set("verdict", advice.verdict);
    if (error_) {
        json.set("error", hypervisor::control_error_json(*error_));
    }
    return json;
}

void SourceMigration::run_guest() {
    let_go_on();
}

void SourceMigration::discard_guest() {
    downtime_ns_ = now() - stopped_ns_;
}

}  // namespace kumoi::migration
