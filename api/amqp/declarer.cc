#include "api/amqp/declarer.h"

#include "base/log.h"

namespace kumoi::amqp {
namespace {

bool about_durability(const Error& refusal) {
    return refusal.message.find("inequivalent arg 'durable'") != std::string::npos;
}

void complain(std::string_view kind, const std::string& name, const Error& refusal,
              std::string_view way_out) {
    log_error("amqp", fmt::format("{} {} is not as our options say: {}", kind, name, way_out),
              {{"refusal", refusal.message},
               {"fix",
                "give every service of the cloud the same amqp_durable_queues and "
                "rabbit_quorum_queue, then delete the queue"}});
}

}  // namespace

void Declarer::link_up(BrokerLink& link) {
    link_ = &link;
    declared_.clear();
}

Result<void> Declarer::exchange(const ExchangeSpec& spec) {
    if (spec.name.empty() || declared_.contains(spec.name)) {
        return {};
    }
    ExchangeSpec real = spec;
    if (const auto found = durable_really_.find("exchange " + spec.name);
        found != durable_really_.end()) {
        real.durable = found->second;
    }
    Result<void> made = link_->declare_exchange(real);
    if (!made.ok() && made.error().code == ErrorCode::Conflict) {
        made = settle_exchange(real, made.error());
    }
    if (made.ok()) {
        declared_.insert(spec.name);
    }
    return made;
}

Result<void> Declarer::settle_exchange(ExchangeSpec spec, const Error& refusal) {
    if (about_durability(refusal)) {
        spec.durable = !spec.durable;
        complain("exchange", spec.name, refusal,
                 spec.durable ? "declaring it as durable" : "declaring it as not durable");
        Result<void> made = link_->declare_exchange(spec);
        if (made.ok() || is_dead(made.error())) {
            durable_really_["exchange " + spec.name] = spec.durable;
            return made;
        }
    }
    complain("exchange", spec.name, refusal, "using it as it is");
    return {};
}

Result<void> Declarer::queue(const QueueSpec& spec) {
    QueueSpec real = spec;
    if (const auto found = durable_really_.find("queue " + spec.name);
        found != durable_really_.end()) {
        real.durable = found->second;
    }
    Result<void> made = link_->declare_queue(real);
    if (made.ok() || is_dead(made.error())) {
        return made;
    }
    return settle_queue(std::move(real), made.error());
}

Result<void> Declarer::settle_queue(QueueSpec spec, const Error& refusal) {
    if (refusal.code == ErrorCode::NotFound) {
        // A classic queue whose node is down can be neither used nor declared until it is deleted.
        log_error("amqp",
                  fmt::format("queue {} is stuck: deleting it and declaring it again", spec.name),
                  {{"refusal", refusal.message}});
        Result<void> deleted = link_->delete_queue(spec.name);
        if (!deleted.ok() && is_dead(deleted.error())) {
            return deleted;
        }
        return link_->declare_queue(spec);
    }
    if (refusal.code != ErrorCode::Conflict) {
        return refusal;
    }
    if (about_durability(refusal)) {
        spec.durable = !spec.durable;
        complain("queue", spec.name, refusal,
                 spec.durable ? "declaring it as durable" : "declaring it as not durable");
        Result<void> made = link_->declare_queue(spec);
        if (made.ok() || is_dead(made.error())) {
            durable_really_["queue " + spec.name] = spec.durable;
            return made;
        }
    }
    complain("queue", spec.name, refusal, "using it as it is");
    TRY(link_->inspect_queue(spec.name));
    return {};
}

Result<void> Declarer::subscription_once(const Subscription& wanted) {
    const std::string key = "queue " + wanted.queue.name;
    if (!declared_.contains(key)) {
        TRY(subscription(wanted));
        declared_.insert(key);
    }
    return {};
}

Result<void> Declarer::subscription(const Subscription& subscription) {
    if (subscription.exchange) {
        TRY(exchange(*subscription.exchange));
    }
    TRY(queue(subscription.queue));
    if (!subscription.exchange) {
        return {};
    }
    Result<void> bound = link_->bind_queue(subscription.queue.name, subscription.exchange->name,
                                           subscription.routing_key);
    if (!bound.ok() && bound.error().code == ErrorCode::NotFound) {
        // An exchange that deletes itself may have gone since we declared it.
        declared_.erase(subscription.exchange->name);
        TRY(exchange(*subscription.exchange));
        TRY(queue(subscription.queue));
        bound = link_->bind_queue(subscription.queue.name, subscription.exchange->name,
                                  subscription.routing_key);
    }
    return bound;
}

}  // namespace kumoi::amqp
