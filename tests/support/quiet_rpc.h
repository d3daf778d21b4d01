// nova-conductor as a script, for tests of what runs above the messages.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "api/amqp/rpc_client.h"
#include "api/nova/nova_conductor.h"

namespace kumoi::test {

// Records what is asked of conductor and answers as it was told; else with "nothing changed".
class QuietRpc final : public amqp::RpcClient {
public:
    struct Sent {
        amqp::Target target;
        Json context;
        std::string method;
        Json args;
    };
    Result<Json> call(const amqp::Target& target, const Json& context, const std::string& method,
                      Json args, amqp::CallOptions /*options*/) override {
        sent.push_back({target, context, method, std::move(args)});
        if (!answers.empty()) {
            Result<Json> answer = std::move(answers.front());
            answers.pop_front();
            return answer;
        }
        if (method == "object_class_action_versions") {
            return Json();
        }
        Json pair = Json::array();
        pair.push_back(Json::object({{"obj_what_changed", Json::array()}}));
        pair.push_back(nullptr);
        return pair;
    }
    Result<void> cast(const amqp::Target& target, const Json& context, const std::string& method,
                      Json args) override {
        sent.push_back({target, context, method, std::move(args)});
        return {};
    }
    // "Instance.save", "InstanceFault.create", "build_instances", ...
    std::vector<std::string> calls() const {
        std::vector<std::string> names;
        for (const Sent& one : sent) {
            const Json* object = one.args.find("objinst");
            const std::string name = object != nullptr ? object->string_or("nova_object.name")
                                                       : one.args.string_or("objname");
            names.push_back(name.empty() ? one.method
                                         : name + "." + one.args.string_or("objmethod"));
        }
        return names;
    }
    std::vector<Sent> sent;
    std::deque<Result<Json>> answers;
};

// Placement, as far as NovaConductor needs it.
class RecordedAllocations final : public nova::Allocations {
public:
    Result<void> remove(const compute::RequestContext& /*context*/,
                        const std::string& consumer) override {
        removed.push_back(consumer);
        return {};
    }
    Result<void> move(const compute::RequestContext& /*context*/, const std::string& source,
                      const std::string& target) override {
        moved.emplace_back(source, target);
        return {};
    }
    std::vector<std::pair<std::string, std::string>> moved;
    Result<void> remove_from(const compute::RequestContext& /*context*/,
                             const std::string& consumer, const std::string& provider) override {
        removed_from.emplace_back(consumer, provider);
        return {};
    }
    std::vector<std::pair<std::string, std::string>> removed_from;
    Result<std::vector<std::string>> consumers_on(const std::string& /*provider*/) override {
        return consumers;
    }
    std::vector<std::string> removed;
    std::vector<std::string> consumers;
};

}  // namespace kumoi::test
