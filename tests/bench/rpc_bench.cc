// Round trips through one RabbitMQ to one server: our client and Python's oslo.messaging client,
// in one run. Prints one line. Needs rabbitmq-server and python3-oslo.messaging.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#include "api/amqp/amqp_rpc_client.h"
#include "api/amqp/rpc_server.h"
#include "base/subprocess.h"
#include "tests/support/rabbit_broker.h"

namespace {

using namespace kumoi;        // NOLINT: one program
using namespace kumoi::amqp;  // NOLINT
using Clock = std::chrono::steady_clock;

constexpr int kCalls = 3000;
constexpr int kCallers = 8;

struct Figures {
    double rate = 0;
    double p50_us = 0;
    double p99_us = 0;
};

void call_many(AmqpRpcClient& client, int count, std::vector<double>& times_us) {
    const Target target{.topic = "compute", .server = "host1", .version = "6.0"};
    const Json context = Json::object({{"request_id", "req-bench"}});
    const Json args = Json::object({{"text", std::string(1000, 'x')}});
    for (int index = 0; index < count; ++index) {
        const auto start = Clock::now();
        const auto answer = client.call(target, context, "echo", args);
        if (!answer.ok()) {
            std::fprintf(stderr, "%s\n", answer.error().text().c_str());
            std::exit(1);
        }
        times_us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
    }
}

Figures measure(AmqpRpcClient& client, int callers) {
    std::vector<std::vector<double>> times(static_cast<size_t>(callers));
    std::vector<std::thread> threads;
    const auto start = Clock::now();
    for (auto& mine : times) {
        threads.emplace_back([&] { call_many(client, kCalls / callers, mine); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    std::vector<double> all;
    for (const auto& mine : times) {
        all.insert(all.end(), mine.begin(), mine.end());
    }
    std::sort(all.begin(), all.end());
    return {static_cast<double>(all.size()) / seconds, all[all.size() / 2],
            all[all.size() * 99 / 100]};
}

Figures measure_python(const std::string& url) {
    const auto output = run_checked(
        {"/usr/bin/python3", "-B", "tests/functional/amqp/python_peer.py", "bench", url, "300"});
    if (!output.ok()) {
        std::fprintf(stderr, "%s\n", output.error().text().c_str());
        std::exit(1);
    }
    const auto json = Json::parse(*output);
    return {json->find("rate")->as_double(), json->find("p50_us")->as_double(),
            json->find("p99_us")->as_double()};
}

}  // namespace

int main() {
    auto broker = kumoi::testing::RabbitBroker::start();
    if (!broker.ok()) {
        std::fprintf(stderr, "%s\n", broker.error().text().c_str());
        return 1;
    }
    SystemClock clock;
    SystemRandom random;
    Metrics metrics;
    AmqpOptions options;
    options.transport_url = (*broker)->url();
    const auto served = Transport::create({clock, random, metrics}, options).value();
    const auto called = Transport::create({clock, random, metrics}, options).value();
    RpcServer server(*served, {});
    server.start({"compute"}, "host1",
                 [](const RpcRequest& request) -> Result<Json> { return request.args; });
    server.wait_until_listening(10'000);
    Figures one;
    Figures many;
    {
        AmqpRpcClient client(*called);
        std::vector<double> warm;
        call_many(client, 200, warm);
        one = measure(client, 1);
        many = measure(client, kCallers);
    }
    const Figures python = measure_python((*broker)->url());
    server.stop();
    std::printf(
        "rpc, 1 kB there and back: kumoi %.0f/s p50 %.0f us p99 %.0f us; %d callers %.0f/s p99 "
        "%.0f us; "
        "oslo.messaging %.0f/s p50 %.0f us p99 %.0f us; p50 1:%.1f\n",
        one.rate, one.p50_us, one.p99_us, kCallers, many.rate, many.p99_us, python.rate,
        python.p50_us, python.p99_us, python.p50_us / one.p50_us);
    return 0;
}
