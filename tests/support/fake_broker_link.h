// FakeBrokerLink: a BrokerLink that records what it is told and says what a test wants. Its
// descriptor is an eventfd that becomes readable when an event is pushed. One thread.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "api/amqp/connection.h"
#include "base/fd.h"

namespace kumoi::testing {

class FakeBrokerLink final : public amqp::BrokerLink {
public:
    // What outlives the link, so that a test can look after a connection has dropped it.
    struct Log {
        std::vector<std::string> calls;  // "queue compute", "publish nova/conductor", ...
        std::vector<amqp::QueueSpec> queues;
        std::vector<amqp::ExchangeSpec> exchanges;
        std::vector<amqp::OutgoingMessage> published;
        std::vector<uint64_t> acked;
        std::map<std::string, std::deque<Error>> refusals;  // by call, in order
        std::map<std::string, int64_t> consumers;           // inspect_queue; absent: NotFound
        std::deque<Result<amqp::LinkEvent>> events;
        int links = 0;
        size_t count(const std::string& call) const {
            return static_cast<size_t>(std::count(calls.begin(), calls.end(), call));
        }
    };
    explicit FakeBrokerLink(Log& log) : log_(log), fd_(make_eventfd(1).value()) { ++log_.links; }

    int fd() const override { return fd_.get(); }  // always readable: drained by every round
    int64_t heartbeat_s() const override { return 60; }
    Result<amqp::LinkEvent> next_event() override {
        if (log_.events.empty()) {
            return amqp::LinkEvent();
        }
        Result<amqp::LinkEvent> next = std::move(log_.events.front());
        log_.events.pop_front();
        return next;
    }
    Result<void> declare_exchange(const amqp::ExchangeSpec& exchange) override {
        log_.exchanges.push_back(exchange);
        return note("exchange " + exchange.name);
    }
    Result<void> declare_queue(const amqp::QueueSpec& queue) override {
        log_.queues.push_back(queue);
        return note("queue " + queue.name);
    }
    Result<int64_t> inspect_queue(const std::string& name) override {
        TRY(note("inspect " + name));
        const auto found = log_.consumers.find(name);
        if (found == log_.consumers.end()) {
            return Error::not_found("no queue {}", name);
        }
        return found->second;
    }
    Result<void> bind_queue(const std::string& queue, const std::string& exchange,
                            const std::string& key) override {
        return note("bind " + queue + " " + exchange + " " + key);
    }
    Result<void> delete_queue(const std::string& name) override { return note("delete " + name); }
    Result<void> consume(const std::string& queue, const std::string& tag, int64_t,
                         const Json& arguments) override {
        last_consume_arguments = arguments;
        return note("consume " + queue + " " + tag);
    }
    Result<void> cancel(const std::string& tag) override { return note("cancel " + tag); }
    Result<void> ack(uint64_t tag) override {
        log_.acked.push_back(tag);
        return note("ack");
    }
    Result<void> requeue(uint64_t) override { return note("requeue"); }
    Result<void> open_consume_channel() override { return note("open consume"); }
    Result<void> open_publish_channel() override { return note("open publish"); }
    Result<void> publish(const amqp::OutgoingMessage& message) override {
        TRY(note("publish " + message.exchange + "/" + message.routing_key));
        log_.published.push_back(message);
        return {};
    }
    Json last_consume_arguments;

private:
    Result<void> note(const std::string& call) {
        log_.calls.push_back(call);
        if (auto& refusals = log_.refusals[call]; !refusals.empty()) {
            Error error = refusals.front();
            refusals.pop_front();
            return error;
        }
        return {};
    }
    Log& log_;
    UniqueFd fd_;
};

// Hands out FakeBrokerLinks, or what a test put into `outcomes`.
class FakeConnector final : public amqp::Connector {
public:
    FakeBrokerLink::Log log;
    std::deque<Error> failures;  // the next attempts fail with these
    std::vector<std::string> hosts;

    void connect(const amqp::TransportUrl::Host& host, Done done) override {
        hosts.push_back(host.text());
        if (!failures.empty()) {
            Error error = failures.front();
            failures.pop_front();
            done(std::move(error));
            return;
        }
        done(std::unique_ptr<amqp::BrokerLink>(std::make_unique<FakeBrokerLink>(log)));
    }
    void stop() override {}
};

}  // namespace kumoi::testing
