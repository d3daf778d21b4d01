// Declarer: declares exchanges and queues so that a wrong option costs a loud log line instead of a
// deaf service. What the broker holds with another durability (406) is declared with that one; a
// queue with other arguments is used as it is; a queue whose home node is gone (404) is deleted and
// made anew. Remembers per name what had to be changed, and per link what is declared already.
// Loop thread.
#pragma once

#include <map>
#include <set>
#include <string>

#include "api/amqp/broker_link.h"

namespace kumoi::amqp {

class Declarer {
public:
    void link_up(BrokerLink& link);
    void link_down() { link_ = nullptr; }
    // The broker closed a publishing channel: what was declared may be gone.
    void forget() { declared_.clear(); }

    Result<void> exchange(const ExchangeSpec& spec);                   // at most once a link
    Result<void> queue(const QueueSpec& spec);                         // always asks
    Result<void> subscription(const Subscription& subscription);       // always asks
    Result<void> subscription_once(const Subscription& subscription);  // at most once a link

private:
    Result<void> settle_exchange(ExchangeSpec spec, const Error& refusal);
    Result<void> settle_queue(QueueSpec spec, const Error& refusal);

    BrokerLink* link_ = nullptr;
    std::set<std::string> declared_;              // exchanges
    std::map<std::string, bool> durable_really_;  // by name, where it differs from the options
};

}  // namespace kumoi::amqp
