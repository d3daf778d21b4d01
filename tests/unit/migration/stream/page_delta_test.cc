#include "migration/stream/page_delta.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <random>

#include "migration/stream/delta_cache.h"

namespace kumoi::migration {
namespace {

using Page = std::array<std::byte, kPage>;

Page filled(uint8_t value) {
    Page page;
    page.fill(std::byte{value});
    return page;
}

std::vector<std::byte> delta_of(const Page& before, const Page& now) {
    std::vector<std::byte> delta;
    EXPECT_TRUE(encode_delta(before, now, delta));
    Page changed = before;
    EXPECT_TRUE(apply_delta(delta, changed));
    EXPECT_EQ(changed, now);
    return delta;
}

TEST(PageDelta, TellsOfChangedWordsOnly) {
    const Page before = filled(1);
    Page now = before;
    EXPECT_TRUE(delta_of(before, now).empty());
    now[0] = std::byte{9};
    EXPECT_EQ(delta_of(before, now).size(), 12u);
    now[kPage - 1] = std::byte{9};
    EXPECT_EQ(delta_of(before, now).size(), 24u);
    now[9] = std::byte{9};  // the first word's neighbour
    EXPECT_EQ(delta_of(before, now).size(), 32u);
}

TEST(PageDelta, WhatChangedTooMuchIsRefused) {
    std::vector<std::byte> out(5, std::byte{7});
    EXPECT_FALSE(encode_delta(filled(1), filled(2), out));
    EXPECT_EQ(out, std::vector<std::byte>(5, std::byte{7}));
    Page now = filled(1);
    constexpr size_t kMost = (kDeltaMax - 4) / 8 * 8;  // whole words behind a header
    std::fill_n(now.begin(), kMost, std::byte{2});
    EXPECT_TRUE(encode_delta(filled(1), now, out));
    EXPECT_EQ(out.size(), 5 + 4 + kMost);
    now[kMost] = std::byte{2};
    out.clear();
    EXPECT_FALSE(encode_delta(filled(1), now, out));
}

TEST(PageDelta, AnyChangeComesBack) {
    std::mt19937 random(1);
    for (int i = 0; i < 500; ++i) {
        Page before = filled(0);
        Page now = before;
        for (unsigned changes = random() % 200; changes > 0; --changes) {
            now[random() % kPage] = static_cast<std::byte>(random());
        }
        delta_of(before, now);
    }
}

TEST(PageDelta, NonsenseIsRefused) {
    const auto refused = [](std::vector<uint8_t> bytes) {
        Page page = filled(0);
        return !apply_delta(std::as_bytes(std::span(bytes)), page);
    };
    EXPECT_TRUE(refused({0, 0, 1}));                             // half a header
    EXPECT_TRUE(refused({0, 0, 0, 0}));                          // a run of nothing
    EXPECT_TRUE(refused({0, 0, 1, 0, 1, 2, 3}));                 // half a word
    EXPECT_TRUE(refused({0, 2, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8}));  // word 512
    EXPECT_TRUE(refused({0xff, 0xff, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8}));
    EXPECT_FALSE(refused({0xff, 1, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8}));  // word 511
    EXPECT_TRUE(
        refused({0xff, 1, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8}));
}

class DeltaCacheTest : public testing::Test {
protected:
    DeltaCache::Send take(uint64_t page, const Page& now) {
        delta_.clear();
        return cache_.take(page, now, delta_);
    }
    DeltaCache cache_{4 * kPage};
    std::vector<std::byte> delta_;
};

TEST_F(DeltaCacheTest, TheSecondSendingIsADelta) {
    EXPECT_EQ(take(1, filled(1)), DeltaCache::Send::Whole);  // no round has begun
    cache_.begin_round();
    EXPECT_EQ(take(1, filled(1)), DeltaCache::Send::Whole);
    cache_.begin_round();
    Page now = filled(1);
    EXPECT_EQ(take(1, now), DeltaCache::Send::Nothing);
    now[100] = std::byte{2};
    EXPECT_EQ(take(1, now), DeltaCache::Send::Delta);
    EXPECT_EQ(delta_.size(), 12u);
    EXPECT_EQ(take(1, now), DeltaCache::Send::Nothing);  // it is remembered as it is now
    EXPECT_EQ(take(1, filled(7)), DeltaCache::Send::Whole);
    EXPECT_EQ(take(1, filled(7)), DeltaCache::Send::Nothing);
}

TEST_F(DeltaCacheTest, WhoIsSentAgainAndAgainKeepsHisPlace) {
    cache_.begin_round();
    take(1, filled(1));
    cache_.begin_round();
    EXPECT_EQ(take(5, filled(5)), DeltaCache::Send::Whole);  // shares the place
    EXPECT_EQ(take(1, filled(1)), DeltaCache::Send::Nothing);
    cache_.begin_round();
    cache_.begin_round();  // a round without it
    EXPECT_EQ(take(5, filled(5)), DeltaCache::Send::Whole);
    EXPECT_EQ(take(5, filled(5)), DeltaCache::Send::Nothing);
    EXPECT_EQ(take(1, filled(1)), DeltaCache::Send::Whole);
}

TEST_F(DeltaCacheTest, WhatWasSentOtherwiseIsForgotten) {
    cache_.begin_round();
    take(1, filled(1));
    cache_.forget(5);  // not his place
    EXPECT_EQ(take(1, filled(1)), DeltaCache::Send::Nothing);
    cache_.forget(1);
    EXPECT_EQ(take(1, filled(1)), DeltaCache::Send::Whole);
    cache_.clear();
    EXPECT_EQ(take(1, filled(1)), DeltaCache::Send::Whole);
    cache_.begin_round();
    EXPECT_EQ(take(1, filled(1)), DeltaCache::Send::Whole);
}

}  // namespace
}  // namespace kumoi::migration
