#include "hypervisor/net/announcement.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/net_backend_fake.h"

namespace kumoi::hypervisor {
namespace {

TEST(Announcement, AFrameSaysWhereTheCardIs) {
    const auto frame = rarp_frame({0x02, 1, 2, 3, 4, 5});
    const std::vector<uint8_t> expected = {
        0,    0,    0,    0,    0,    0,    0, 0, 0, 0, 0, 0,  // virtio header
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 1, 2, 3, 4, 5,  // to all, from it
        0x80, 0x35, 0,    1,    8,    0,    6, 4, 0, 3,        // reverse ARP
        2,    1,    2,    3,    4,    5,    0, 0, 0, 0,        // sender
        2,    1,    2,    3,    4,    5,    0, 0, 0, 0};       // target
    ASSERT_EQ(frame.size(), 72u);
    for (size_t i = 0; i < frame.size(); ++i) {
        EXPECT_EQ(static_cast<uint8_t>(frame[i]), i < expected.size() ? expected[i] : 0) << i;
    }
}

TEST(Announcement, HasFiveRoundsAndALaterOneReplacesIt) {
    ManualClock clock;
    EventLoop loop(clock);
    std::vector<int64_t> at;
    Announcement announcement(loop, [&] { at.push_back(clock.monotonic_ns() / kNanosPerMilli); });
    const auto run_for = [&](int64_t milliseconds) {
        for (int64_t i = 0; i < milliseconds; ++i) {
            clock.advance(kNanosPerMilli);
            loop.run_ready();
        }
    };
    announcement.begin();
    run_for(2000);
    EXPECT_EQ(at, (std::vector<int64_t>{0, 50, 200, 450, 800}));
    at.clear();
    announcement.begin();
    run_for(60);
    announcement.begin();
    run_for(2000);
    EXPECT_EQ(at, (std::vector<int64_t>{2000, 2050, 2060, 2110, 2260, 2510, 2860}));
}

TEST(NetBackend, DropsWhatHasWaited) {
    BackendInMemory backend;
    for (int i = 0; i < 5; ++i) {
        backend.arrive(60, 'x');
    }
    EXPECT_EQ(backend.drop_waiting(3), 3u);
    EXPECT_EQ(backend.drop_waiting(100), 2u);
    EXPECT_EQ(backend.drop_waiting(100), 0u);
}

}  // namespace
}  // namespace kumoi::hypervisor
