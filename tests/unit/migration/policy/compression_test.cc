#include "migration/policy/compression.h"

#include <gtest/gtest.h>

namespace kumoi::migration {
namespace {

constexpr uint64_t kMiB = 1u << 20;
constexpr int64_t kMilli = 1'000'000;

LinkSample link(uint64_t mib_per_s) {
    return {mib_per_s * kMiB, 1000 * kMilli};
}

struct Case {
    const char* what;
    CompressionSample sample;
    uint64_t link_mib_s;
    bool pays;
};

TEST(Compression, PaysWhereTheLinkIsSlowerThanTheProcessor) {
    const Case cases[] = {
        {"zstd, half, 400 MiB/s; 1 Gbit/s", {400 * kMiB, 200 * kMiB, 1000 * kMilli}, 117, true},
        {"the same over 10 Gbit/s", {400 * kMiB, 200 * kMiB, 1000 * kMilli}, 1170, false},
        {"only a tenth saved, 1 Gbit/s", {400 * kMiB, 360 * kMiB, 1000 * kMilli}, 117, false},
        {"a tenth saved, 100 Mbit/s", {400 * kMiB, 360 * kMiB, 1000 * kMilli}, 12, true},
        {"deltas, 90 % saved at 2 GiB/s, 10 Gbit/s",
         {2048 * kMiB, 200 * kMiB, 1000 * kMilli},
         1170,
         true},
        {"deltas, none hit", {100 * kMiB, 100 * kMiB, 50 * kMilli}, 10, false},
        {"it grew", {100 * kMiB, 101 * kMiB, 1}, 10, false},
        {"no time at all", {100 * kMiB, 99 * kMiB, 0}, 10, true},
        {"nothing seen yet", {}, 10, true},
    };
    for (const Case& one : cases) {
        EXPECT_EQ(compression_pays(one.sample, link(one.link_mib_s)), one.pays) << one.what;
    }
    EXPECT_TRUE(compression_pays({100, 50, 1000}, {}));
}

TEST(CompressionGauge, LittleSaysNothing) {
    CompressionGauge gauge({.telling_bytes = 100, .rest_max = 8});
    gauge.turn({50, 50, 10}, link(10));
    EXPECT_TRUE(gauge.on());
    gauge.turn({50, 50, 10}, link(10));
    EXPECT_FALSE(gauge.on());
    EXPECT_EQ(gauge.dropped(), 1u);
}

TEST(CompressionGauge, WhatDoesNotPayIsTriedMoreAndMoreRarely) {
    CompressionGauge gauge({.telling_bytes = 100, .rest_max = 4});
    unsigned turns = 0;
    for (const unsigned rest : {1u, 2u, 4u, 4u}) {
        EXPECT_TRUE(gauge.on());
        gauge.turn({100, 100, 10}, link(10));
        for (turns = 0; !gauge.on(); ++turns) {
            gauge.turn({}, link(10));
        }
        EXPECT_EQ(turns, rest);
    }
    gauge.turn({100 * kMiB, kMiB, kMilli}, link(10));  // now it does
    EXPECT_TRUE(gauge.on());
    gauge.turn({100, 100, 10}, link(10));
    gauge.turn({}, link(10));
    EXPECT_TRUE(gauge.on());  // one turn again
}

TEST(CompressionGauge, ALinkThatBecameSlowIsSeen) {
    CompressionGauge gauge({.telling_bytes = kMiB, .rest_max = 1});
    const CompressionSample sample{kMiB, kMiB / 2, 3 * kMilli};
    gauge.turn(sample, link(2000));
    EXPECT_FALSE(gauge.on());
    for (int i = 0; i < 20; ++i) {
        gauge.turn({}, {10 * kMiB, 1000 * kMilli});
    }
    gauge.turn(sample, link(10));
    EXPECT_TRUE(gauge.on());
}

}  // namespace
}  // namespace kumoi::migration
