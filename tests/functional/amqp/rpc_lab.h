// What the tests of this folder share: one broker for the program, transports to it, an echo
// server.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "api/amqp/amqp_rpc_client.h"
#include "api/amqp/rpc_dispatcher.h"
#include "api/amqp/rpc_server.h"
#include "api/amqp/transport.h"
#include "tests/support/rabbit_broker.h"

namespace kumoi::amqp {

inline std::unique_ptr<testing::RabbitBroker> broker;  // set by lab_main()

// One process of the cloud: its clock, randomness and connections.
struct Peer {
    explicit Peer(AmqpOptions options = {}) {
        if (options.transport_url == "rabbit://") {
            options.transport_url = broker->url();
        }
        auto made = Transport::create({clock, random, metrics}, std::move(options));
        EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().text());
        transport = std::move(made).value();
    }
    SystemClock clock;
    SystemRandom random;
    Metrics metrics;
    std::unique_ptr<Transport> transport;
};

struct Server {
    explicit Server(Peer& peer, const std::string& topic = "compute",
                    const std::string& name = "host1")
        : server(*peer.transport, {}) {
        start({topic}, name);
    }
    Server(Peer& peer, const std::vector<std::string>& topics, const std::string& name)
        : server(*peer.transport, {}) {
        start(topics, name);
    }
    void start(const std::vector<std::string>& topics, const std::string& name) {
        dispatcher.add_base_api("compute");
        dispatcher.add(
            {.namespace_ = "",
             .version = "6.5",
             .methods = {"echo", "fail", "sleep", "count", "note"},
             .handler = [this, name](const RpcRequest& request) { return handle(request, name); }});
        server.start(topics, name,
                     [this](const RpcRequest& request) { return dispatcher(request); });
        EXPECT_TRUE(server.wait_until_listening(10'000));
    }
    Result<Json> handle(const RpcRequest& request, const std::string& name) {
        {
            const std::lock_guard lock(mutex);
            ++calls;
            changed.notify_all();
        }
        if (request.method == "fail") {
            return Error::not_found("Instance abc could not be found.")
                .with_fault("InstanceNotFound");
        }
        if (request.method == "sleep") {
            std::this_thread::sleep_for(
                std::chrono::milliseconds(request.args.integer_or("ms", 100)));
        }
        return Json::object({{"host", name},
                             {"topic", request.topic},
                             {"args", request.args},
                             {"context", request.context}});
    }
    bool wait_for_calls(int count, int timeout_ms = 10'000) {
        std::unique_lock lock(mutex);
        return changed.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                                [&] { return calls >= count; });
    }
    RpcDispatcher dispatcher;
    std::mutex mutex;
    std::condition_variable changed;
    int calls = 0;
    RpcServer server;
};

inline Target compute_target(const std::string& server = "host1") {
    return {.topic = "compute", .server = server, .version = "6.0"};
}

// Waits in steps until something that takes a moment in another process has happened.
inline bool eventually(const std::function<bool()>& condition, int timeout_ms = 10'000) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return true;
}

inline int lab_main(int argc, char** argv, testing::RabbitBroker::Settings settings = {}) {
    ::testing::InitGoogleTest(&argc, argv);
    if (!testing::RabbitBroker::is_installed()) {
        std::puts("amqp functional tests skipped: rabbitmq-server is not installed");
        return 0;
    }
    auto started = testing::RabbitBroker::start(std::move(settings));
    if (!started.ok()) {
        std::puts(started.error().text().c_str());
        return 1;
    }
    broker = std::move(started).value();
    const int result = RUN_ALL_TESTS();
    broker.reset();
    return result;
}

}  // namespace kumoi::amqp
