#include "base/event_loop.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "base/worker_pool.h"

namespace kumoi {
namespace {

TEST(EventLoop, TimersFireInDeadlineThenInsertionOrder) {
    ManualClock clock;
    EventLoop loop(clock);
    std::string order;
    loop.call_after(20, [&] { order += "c"; });
    loop.call_after(10, [&] { order += "a"; });
    loop.call_after(10, [&] { order += "b"; });
    loop.run_ready();
    EXPECT_EQ(order, "");
    clock.advance(10);
    loop.run_ready();
    EXPECT_EQ(order, "ab");
    clock.advance(10);
    loop.run_ready();
    EXPECT_EQ(order, "abc");
}

TEST(EventLoop, CancelledTimersDoNotFire) {
    ManualClock clock;
    EventLoop loop(clock);
    bool fired = false;
    const auto id = loop.call_after(1, [&] { fired = true; });
    EXPECT_TRUE(loop.cancel(id));
    EXPECT_FALSE(loop.cancel(id));
    clock.advance(5);
    loop.run_ready();
    EXPECT_FALSE(fired);
}

TEST(EventLoop, PostWakesTheLoopFromAnotherThread) {
    SystemClock clock;
    EventLoop loop(clock);
    int count = 0;
    std::thread other([&] {
        for (int index = 0; index < 100; ++index) {
            loop.post([&] { ++count; });
        }
        loop.stop();
    });
    loop.run();
    other.join();
    EXPECT_EQ(count, 100);
}

TEST(EventLoop, WatchSeesDataAndMayRemoveItself) {
    ManualClock clock;
    EventLoop loop(clock);
    const UniqueFd event = std::move(make_eventfd(1)).value();
    int calls = 0;
    EventLoop::Watch watch;
    watch = std::move(loop.watch(event.get(), EventLoop::kReadable, [&](uint32_t events) {
                EXPECT_EQ(events, EventLoop::kReadable);
                ++calls;
                watch.reset();
            })).value();
    loop.run_ready();
    loop.run_ready();
    EXPECT_EQ(calls, 1);
}

TEST(EventLoop, WatchingAClosedDescriptorIsAnError) {
    ManualClock clock;
    EventLoop loop(clock);
    EXPECT_FALSE(loop.watch(9999, EventLoop::kReadable, [](uint32_t) {}).ok());
}

TEST(WorkerPool, RunsEverythingBeforeItEnds) {
    std::atomic<int> done{0};
    {
        WorkerPool pool("test", 3, 1000);
        for (int index = 0; index < 500; ++index) {
            ASSERT_TRUE(pool.submit([&] { ++done; }).ok());
        }
    }
    EXPECT_EQ(done, 500);
}

TEST(WorkerPool, RefusesWhenFullOrStopped) {
    std::mutex gate;
    gate.lock();
    std::atomic<bool> started{false};
    WorkerPool pool("test", 1, 2);
    ASSERT_TRUE(pool.submit([&] {
                        started = true;
                        started.notify_one();
                        const std::lock_guard lock(gate);
                    })
                    .ok());
    started.wait(false);
    EXPECT_TRUE(pool.submit([] {}).ok());
    EXPECT_TRUE(pool.submit([] {}).ok());
    EXPECT_EQ(pool.submit([] {}).error().code, ErrorCode::Unavailable);
    gate.unlock();
    pool.stop();
    EXPECT_EQ(pool.submit([] {}).error().code, ErrorCode::Unavailable);
    pool.join();
}

}  // namespace
}  // namespace kumoi
