// FakeRpc: an RpcClient without a broker, for tests of what stands on RPC. Answers are scripted per
// method, in order, or by a function; every call is kept. Thread safe.
//
//     FakeRpc rpc;
//     rpc.answer("object_action", Json::object({{"x", 1}}));
//     rpc.fail("object_backport_versions", Error::not_found("no").with_fault("InstanceNotFound"));
//     rpc.on("build_instances", [](const FakeRpc::Sent& sent) -> Result<Json> { ... });
//     EXPECT_EQ(rpc.sent("object_action").size(), 1);
//
// A call with nothing scripted for it fails with fault "MessagingTimeout"; a cast succeeds.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "api/amqp/rpc_client.h"

namespace kumoi::testing {

class FakeRpc final : public amqp::RpcClient {
public:
    struct Sent {
        amqp::Target target;
        Json context;
        std::string method;
        Json args;
        amqp::CallOptions options;
        bool is_cast = false;
    };
    using Responder = std::function<Result<Json>(const Sent&)>;

    // The next call of `method`; later ones queue up behind it.
    void answer(const std::string& method, Json result) { script(method, std::move(result)); }
    void fail(const std::string& method, Error error) { script(method, std::move(error)); }
    // Every call of `method` that no answer is queued for.
    void on(const std::string& method, Responder responder) {
        const std::lock_guard lock(mutex_);
        responders_[method] = std::move(responder);
    }

    std::vector<Sent> sent() const {
        const std::lock_guard lock(mutex_);
        return sent_;
    }
    std::vector<Sent> sent(const std::string& method) const {
        std::vector<Sent> found;
        for (Sent& item : sent()) {
            if (item.method == method) {
                found.push_back(std::move(item));
            }
        }
        return found;
    }
    void forget() {
        const std::lock_guard lock(mutex_);
        sent_.clear();
    }

    Result<Json> call(const amqp::Target& target, const Json& context, const std::string& method,
                      Json args, amqp::CallOptions options = {}) override {
        return take({target, context, method, std::move(args), options, false});
    }
    Result<void> cast(const amqp::Target& target, const Json& context, const std::string& method,
                      Json args) override {
        const Result<Json> outcome = take({target, context, method, std::move(args), {}, true});
        return outcome.ok() ? Result<void>() : Result<void>(outcome.error());
    }

private:
    void script(const std::string& method, Result<Json> outcome) {
        const std::lock_guard lock(mutex_);
        scripted_[method].push_back(std::move(outcome));
    }
    Result<Json> take(Sent sent) {
        Responder responder;
        {
            const std::lock_guard lock(mutex_);
            sent_.push_back(sent);
            if (auto& queue = scripted_[sent.method]; !queue.empty()) {
                Result<Json> outcome = std::move(queue.front());
                queue.pop_front();
                return outcome;
            }
            if (const auto found = responders_.find(sent.method); found != responders_.end()) {
                responder = found->second;
            }
        }
        if (responder) {
            return responder(sent);  // outside of the lock: it may call again
        }
        if (sent.is_cast) {
            return Json();
        }
        return Error::timeout("FakeRpc has no answer for {}.{}", sent.target.topic, sent.method)
            .with_fault("MessagingTimeout");
    }

    mutable std::mutex mutex_;
    std::map<std::string, std::deque<Result<Json>>> scripted_;
    std::map<std::string, Responder> responders_;
    std::vector<Sent> sent_;
};

}  // namespace kumoi::testing
