#include "compute/manager/server_queue.h"

#include <gtest/gtest.h>

#include <deque>
#include <vector>

#include "base/worker_pool.h"

namespace kumoi::compute {
namespace {

using Lane = ServerQueue::Lane;

// Holds started work until the test runs it; refuses beyond `room`.
struct HeldExecutor {
    std::deque<std::function<void()>> held;
    size_t room = 100;
    ServerQueue::Executor executor() {
        return [this](std::function<void()> function) -> Result<void> {
            if (held.size() >= room) {
                return Error::unavailable("full");
            }
            held.push_back(std::move(function));
            return {};
        };
    }
    void run_one() {
        auto function = std::move(held.front());
        held.pop_front();
        function();
    }
};

TEST(ServerQueue, RefusesAfterStop) {
    HeldExecutor held;
    ServerQueue queue(held.executor(), 1);
    queue.stop();
    EXPECT_FALSE(queue.submit("a", Lane::Other, [] {}).ok());
}

TEST(ServerQueue, RefusesWhenTheExecutorIsFullAndForgetsTheServer) {
    HeldExecutor held;
    held.room = 0;
    ServerQueue queue(held.executor(), 1);
    EXPECT_FALSE(queue.submit("a", Lane::Other, [] { FAIL(); }).ok());
    EXPECT_EQ(queue.servers_busy(), 0u);
    held.room = 1;
    bool ran = false;
    EXPECT_TRUE(queue.submit("a", Lane::Other, [&] { ran = true; }).ok());
    held.run_one();
    EXPECT_TRUE(ran);
}

TEST(ServerQueue, LimitsWhatWaitsForOneServer) {
    HeldExecutor held;
    ServerQueue queue(held.executor(), 1);
    for (size_t count = 0; count < ServerQueue::kQueuedPerServerMax; ++count) {
        ASSERT_TRUE(queue.submit("a", Lane::Other, [] {}).ok());
    }
    EXPECT_FALSE(queue.submit("a", Lane::Other, [] {}).ok());
    EXPECT_TRUE(queue.submit("b", Lane::Other, [] {}).ok());
}

TEST(ServerQueue, RunsOneServersWorkInOrder) {
    HeldExecutor held;
    ServerQueue queue(held.executor(), 1);
    std::vector<int> order;
    for (int index = 0; index < 5; ++index) {
        ASSERT_TRUE(
            queue.submit("a", Lane::Other, [&order, index] { order.push_back(index); }).ok());
    }
    EXPECT_EQ(held.held.size(), 1u);
    held.run_one();
    EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST(ServerQueue, ParksBuildsBeyondTheLimitWithoutHoldingOthersUp) {
    HeldExecutor held;
    ServerQueue queue(held.executor(), 1);
    std::vector<std::string> order;
    ASSERT_TRUE(queue
                    .submit("a", Lane::Build,
                            [&] {
                                order.push_back("build a");
                                held.run_one();  // b's turn comes while a builds: it must wait
                                held.run_one();  // c's other work must not
                            })
                    .ok());
    ASSERT_TRUE(queue.submit("b", Lane::Build, [&] { order.push_back("build b"); }).ok());
    ASSERT_TRUE(queue.submit("c", Lane::Other, [&] { order.push_back("stop c"); }).ok());
    held.run_one();
    EXPECT_EQ(order, (std::vector<std::string>{"build a", "stop c"}));
    held.run_one();
    EXPECT_EQ(order.back(), "build b");
    EXPECT_EQ(queue.servers_busy(), 0u);
}

TEST(ServerQueue, RunsAParkedBuildItselfWhenTheExecutorIsFull) {
    HeldExecutor held;
    ServerQueue queue(held.executor(), 1);
    bool built = false;
    ASSERT_TRUE(queue
                    .submit("a", Lane::Build,
                            [&] {
                                held.run_one();
                                held.room = 0;
                            })
                    .ok());
    ASSERT_TRUE(queue.submit("b", Lane::Build, [&] { built = true; }).ok());
    held.run_one();
    EXPECT_TRUE(built);
    EXPECT_EQ(queue.servers_busy(), 0u);
}

TEST(ServerQueue, NeverRunsTwoOfOneServerAtOnceOnRealThreads) {
    WorkerPool pool("test", 4, 1000);
    ServerQueue queue(
        [&](std::function<void()> function) { return pool.submit(std::move(function)); }, 2);
    std::atomic<int> running{0};
    std::atomic<int> overlaps{0};
    std::atomic<int> builds{0};
    std::atomic<int> builds_over{0};
    int ran[3] = {};
    for (int index = 0; index < 60; ++index) {
        const int server = index % 3;
        const Lane lane = index % 2 == 0 ? Lane::Build : Lane::Other;
        ASSERT_TRUE(
            queue
                .submit(
                    std::to_string(server), lane,
                    [&, server, lane] {
                        builds_over += lane == Lane::Build && ++builds > 2 ? 1 : 0;
                        overlaps += ++running > 3 ? 1 : 0;
                        ++ran
                            [server];  // unguarded on purpose: ThreadSanitizer would see an overlap
                        --running;
                        builds -= lane == Lane::Build ? 1 : 0;
                    })
                .ok());
    }
    queue.wait_idle();
    EXPECT_EQ(ran[0] + ran[1] + ran[2], 60);
    EXPECT_EQ(overlaps, 0);
    EXPECT_EQ(builds_over, 0);
}

}  // namespace
}  // namespace kumoi::compute
