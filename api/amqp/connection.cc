#include "api/amqp/connection.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace kumoi::amqp {
namespace {

constexpr int kEventsAtOnceMax = 256;  // then other work of the loop has its turn
constexpr int64_t kTickMsMax = 2000;

MetricLabels labels(const std::string& name) {
    return {{"connection", name}};
}

}  // namespace

Connection::Connection(Needs needs, const AmqpOptions& options, TransportUrl url, std::string name)
    : loop_(needs.loop),
      clock_(needs.clock),
      connector_(needs.connector),
      options_(options),
      url_(std::move(url)),
      name_(std::move(name)),
      rotation_(options, url_.hosts.size(), needs.random),
      outbox_(loop_, clock_, declarer_),
      consumers_(loop_, declarer_, [this](const Error& error) { lose_link(error); }),
      up_gauge_(needs.metrics.gauge("kumoi_amqp_connected", "1 while a broker is connected.",
                                    labels(name_))),
      blocked_gauge_(needs.metrics.gauge("kumoi_amqp_blocked",
                                         "1 while the broker blocks publishers.", labels(name_))),
      connects_(
          needs.metrics.counter("kumoi_amqp_connects_total", "Logins at a broker.", labels(name_))),
      losses_(needs.metrics.counter("kumoi_amqp_connections_lost_total",
                                    "Connections that broke or were given up.", labels(name_))),
      returned_(needs.metrics.counter("kumoi_amqp_returned_total", "Messages that no queue took.",
                                      labels(name_))) {}

Connection::~Connection() {
    stop();
}

void Connection::on_loop(std::function<void()> function) {
    loop_.post([this, function = std::move(function)] {
        if (!stopped_) {
            function();
        }
    });
}

void Connection::start() {
    on_loop([this] { try_connect(); });
}

void Connection::stop() {
    if (std::exchange(stopped_, true)) {
        return;
    }
    loop_.cancel(tick_timer_);
    loop_.cancel(connect_timer_);
    connector_.stop();
    watch_.reset();
    outbox_.link_down();
    consumers_.link_down();
    outbox_.fail_all(Error::cancelled("the connection to the broker is being closed"));
    link_.reset();
    up_ = false;
    up_gauge_.set(0);
}

void Connection::try_connect() {
    connector_.connect(url_.hosts[rotation_.host()],
                       [this](Result<std::unique_ptr<BrokerLink>> link) {
                           if (!stopped_) {
                               connected(std::move(link));
                           }
                       });
}

void Connection::connected(Result<std::unique_ptr<BrokerLink>> link) {
    const std::string host = url_.hosts[rotation_.host()].text();
    if (link.ok()) {
        link_ = std::move(link).value();
        if (Result<void> up = bring_up(); up.ok()) {
            return;
        } else {
            link = up.error();
            watch_.reset();
            outbox_.link_down();
            consumers_.link_down();
            declarer_.link_down();
            link_.reset();
        }
    }
    const Error error = std::move(link).error();
    const int64_t delay_ms =
        rotation_.delay_ms_after_failure(error.code == ErrorCode::Unauthenticated);
    if (!std::exchange(said_down_, true) || delay_ms > 0) {
        log_error("amqp", "no broker yet",
                  {{"connection", name_},
                   {"host", host},
                   {"error", error.text()},
                   {"next_try_ms", delay_ms}});
    }
    connect_timer_ = loop_.call_after(delay_ms * kNanosPerMilli, [this] { try_connect(); });
}

Result<void> Connection::bring_up() {
    watch_ = TRY(loop_.watch(link_->fd(), EventLoop::kReadable, [this](uint32_t) { drain(); }));
    declarer_.link_up(*link_);
    TRY(consumers_.link_up(*link_));
    TRY(outbox_.link_up(*link_));
    rotation_.connected();
    connects_.increment();
    up_ = true;
    up_gauge_.set(1);
    said_down_ = false;
    log_info("amqp", "connected",
             {{"connection", name_}, {"host", url_.hosts[rotation_.host()].text()}});
    schedule_tick();
    drain_soon();
    return {};
}

void Connection::lose_link(const Error& error) {
    if (!link_) {
        return;
    }
    losses_.increment();
    log_error("amqp", "connection lost", {{"connection", name_}, {"error", error.text()}});
    said_down_ = true;
    up_ = false;
    up_gauge_.set(0);
    blocked_now_ = false;
    blocked_gauge_.set(0);
    loop_.cancel(tick_timer_);
    watch_.reset();
    outbox_.link_down();
    consumers_.link_down();
    declarer_.link_down();
    link_.reset();
    const int64_t delay_ms = rotation_.delay_ms_after_loss();
    connect_timer_ = loop_.call_after(delay_ms * kNanosPerMilli, [this] { try_connect(); });
}

void Connection::settle(const Result<void>& result) {
    if (!result.ok()) {
        lose_link(result.error());
    } else if (link_) {
        drain_soon();
    }
}

// Waiting for an answer may have taken other frames off the socket; nothing would tell of them.
void Connection::drain_soon() {
    if (!std::exchange(drain_posted_, true)) {
        on_loop([this] { drain(); });
    }
}

void Connection::drain() {
    drain_posted_ = false;
    for (int count = 0; link_ && count < kEventsAtOnceMax; ++count) {
        Result<LinkEvent> event = link_->next_event();
        if (!event.ok()) {
            lose_link(event.error());
            return;
        }
        if (std::holds_alternative<std::monostate>(*event)) {
            return;
        }
        if (Result<void> taken = dispatch(std::move(event).value()); !taken.ok()) {
            lose_link(taken.error());
            return;
        }
    }
    if (link_) {
        drain_soon();
    }
}

Result<void> Connection::dispatch(LinkEvent event) {
    if (auto* delivery = std::get_if<Delivery>(&event); delivery != nullptr) {
        consumers_.deliver(std::move(*delivery));
        return {};
    }
    if (const auto* confirm = std::get_if<Confirm>(&event); confirm != nullptr) {
        return outbox_.confirmed(*confirm);
    }
    if (const auto* returned = std::get_if<Returned>(&event); returned != nullptr) {
        returned_.increment();
        outbox_.returned(*returned);
        return {};
    }
    if (const auto* cancelled = std::get_if<ConsumerCancelled>(&event); cancelled != nullptr) {
        drain_soon();
        return consumers_.cancelled(cancelled->consumer_tag);
    }
    if (const auto* closed = std::get_if<ChannelClosed>(&event); closed != nullptr) {
        return take_closed(*closed);
    }
    const auto& changed = std::get<BlockedChanged>(event);
    blocked_now_ = changed.blocked;
    blocked_gauge_.set(changed.blocked ? 1 : 0);
    log_warn("amqp", changed.blocked ? "the broker blocks publishers" : "publishers may go on",
             {{"connection", name_}, {"reason", changed.reason}});
    return outbox_.set_blocked(changed.blocked);
}

Result<void> Connection::take_closed(const ChannelClosed& closed) {
    log_warn("amqp", "the broker closed a channel",
             {{"connection", name_}, {"code", closed.code}, {"text", closed.text}});
    drain_soon();
    switch (closed.channel) {
        case LinkChannel::Publish: return outbox_.channel_closed();
        case LinkChannel::Consume: return consumers_.channel_closed();
        case LinkChannel::Declare: break;  // opened again by the next declaration
    }
    return {};
}

void Connection::schedule_tick() {
    const int64_t heartbeat_ms = link_->heartbeat_s() * 1000;
    const int64_t checks = std::max<int64_t>(options_.heartbeat_rate, 2);
    const int64_t tick_ms =
        heartbeat_ms == 0 ? kTickMsMax : std::min(kTickMsMax, heartbeat_ms / checks / 2);
    tick_timer_ =
        loop_.call_after(std::max<int64_t>(tick_ms, 100) * kNanosPerMilli, [this] { tick(); });
}

// Sends and checks heartbeats (inside next_event), and notices a broker that takes messages and
// confirms none.
void Connection::tick() {
    drain();
    if (!link_) {
        return;
    }
    const auto since = outbox_.waiting_since_ns();
    const int64_t waited_ns = since ? clock_.monotonic_ns() - *since : 0;
    if (waited_ns > options_.confirm_timeout_ms * kNanosPerMilli) {
        lose_link(
            Error::timeout("the broker confirmed nothing for {} ms", waited_ns / kNanosPerMilli));
        return;
    }
    schedule_tick();
}

void Connection::publish(Publication publication, PublishDone done) {
    loop_.post([this, publication = std::move(publication), done = std::move(done)]() mutable {
        if (stopped_) {
            done(Error::cancelled("the connection to the broker is closed"));
            return;
        }
        const bool declares = publication.exchange || publication.queue;
        const Result<void> added = outbox_.add(std::move(publication), std::move(done));
        if (!added.ok() || declares) {
            settle(added);
        }
    });
}

ConsumerSet::Id Connection::add_consumer(Subscription subscription,
                                         ConsumerSet::Handlers handlers) {
    const ConsumerSet::Id id = next_consumer_++;
    on_loop([this, id, subscription = std::move(subscription),
             handlers = std::move(handlers)]() mutable {
        settle(consumers_.add(id, std::move(subscription), std::move(handlers)));
    });
    return id;
}

void Connection::remove_consumer(ConsumerSet::Id id, bool delete_queue,
                                 std::function<void()> removed) {
    loop_.post([this, id, delete_queue, removed = std::move(removed)] {
        if (!stopped_) {
            settle(consumers_.remove(id, delete_queue));
        }
        if (removed) {
            removed();
        }
    });
}

bool Connection::acknowledge(uint64_t epoch, uint64_t delivery_tag) {
    const Result<bool> written = consumers_.ack(epoch, delivery_tag);
    if (!written.ok()) {
        lose_link(written.error());
    }
    return written.ok() && *written;
}

void Connection::requeue(uint64_t epoch, uint64_t delivery_tag) {
    if (const Result<bool> written = consumers_.requeue(epoch, delivery_tag); !written.ok()) {
        lose_link(written.error());
    }
}

void Connection::probe() {
    on_loop([this] { settle(consumers_.probe()); });
}

void Connection::renew(std::string why) {
    on_loop([this, why = std::move(why)] { lose_link(Error::unavailable("{}", why)); });
}

}  // namespace kumoi::amqp
