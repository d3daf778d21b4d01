#include "hypervisor/display/bochs_display.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/platform_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kDispi = 0x500;
constexpr uint16_t kWidth = 1;
constexpr uint16_t kHeight = 2;
constexpr uint16_t kBits = 3;
constexpr uint16_t kEnable = 4;

class BochsDisplayTest : public ::testing::Test {
protected:
    void SetUp() override {
        auto display = BochsDisplay::create(
            platform_, {.memory_bytes = 1u << 20, .width = 640, .height = 400});
        ASSERT_TRUE(display) << display.error().text();
        display_ = std::move(*display);
    }
    void write(uint64_t index, uint16_t value) {
        const std::array<uint8_t, 2> bytes{static_cast<uint8_t>(value),
                                           static_cast<uint8_t>(value >> 8)};
        display_->bar(2)->io_write(kDispi + 2 * index, bytes);
    }
    uint16_t read(uint64_t index) {
        std::array<uint8_t, 2> bytes{};
        display_->bar(2)->io_read(kDispi + 2 * index, bytes);
        return static_cast<uint16_t>(bytes[0] | bytes[1] << 8);
    }
    void show(uint16_t width, uint16_t height) {
        write(kEnable, 0);
        write(kWidth, width);
        write(kHeight, height);
        write(kBits, 32);
        write(kEnable, 0x41);
    }

    PlatformFake platform_;
    std::unique_ptr<BochsDisplay> display_;
};

TEST_F(BochsDisplayTest, ShowsWhatIsDrawn) {
    EXPECT_EQ(read(0), 0xb0c5);
    EXPECT_EQ(read(10), 16);  // 64 KiB units
    show(320, 200);
    EXPECT_EQ(display_->mode(), (DisplayMode{320, 200}));
    const std::array<uint8_t, 4> pixel{0x33, 0x22, 0x11, 0xff};
    display_->bar(0)->io_write((5 * 320 + 7) * 4, pixel);
    std::vector<uint32_t> row(320);
    ASSERT_TRUE(display_->read_row({320, 200}, 5, row));
    EXPECT_EQ(row[7], 0x112233u);
    EXPECT_EQ(row[6], 0u);
    EXPECT_FALSE(display_->read_row({640, 400}, 5, row));
}

TEST_F(BochsDisplayTest, PansAndNeverReadsPastItsMemory) {
    show(320, 200);
    write(6, 400);  // a virtual screen, wider
    write(8, 10);
    write(9, 20);
    const std::array<uint8_t, 4> pixel{1, 0, 0, 0};
    display_->bar(0)->io_write((20 * 400 + 10) * 4, pixel);
    std::vector<uint32_t> row(320);
    ASSERT_TRUE(display_->read_row({320, 200}, 0, row));
    EXPECT_EQ(row[0], 1u);
    write(9, 0xffff);
    ASSERT_TRUE(display_->read_row({320, 200}, 199, row));
    EXPECT_EQ(row, std::vector<uint32_t>(320, 0));
}

TEST_F(BochsDisplayTest, WhatCannotBeShownIsDark) {
    for (const auto& [width, height] : {std::pair{0, 200}, {9000, 200}, {320, 65535}}) {
        show(static_cast<uint16_t>(width), static_cast<uint16_t>(height));
        EXPECT_EQ(display_->mode(), (DisplayMode{640, 400}));
    }
    show(320, 200);
    write(kBits, 16);
    EXPECT_EQ(display_->mode(), (DisplayMode{640, 400}));
}

TEST_F(BochsDisplayTest, AnyAccessIsAnswered) {
    std::array<uint8_t, 8> bytes{};
    for (const unsigned bar : {0u, 2u}) {
        for (const uint64_t offset :
             {uint64_t{0}, uint64_t{0x4ff}, uint64_t{0x515}, uint64_t{0x601}, uint64_t{0xfffff},
              uint64_t{1} << 20, ~uint64_t{0}}) {
            for (const size_t width : {1u, 2u, 4u, 8u}) {
                display_->bar(bar)->io_read(offset, std::span(bytes).first(width));
                display_->bar(bar)->io_write(offset, std::span(bytes).first(width));
            }
        }
    }
    EXPECT_EQ(display_->bar(1), nullptr);
}

TEST_F(BochsDisplayTest, EdidPrefersTheConfiguredSize) {
    std::array<uint8_t, 128> edid{};
    for (size_t i = 0; i < edid.size(); ++i) {
        display_->bar(2)->io_read(i, std::span(edid).subspan(i, 1));
    }
    EXPECT_EQ(std::accumulate(edid.begin(), edid.end(), 0u) % 256, 0u);
    EXPECT_EQ(edid[54 + 2] | edid[54 + 4] >> 4 << 8, 640);
    EXPECT_EQ(edid[54 + 5] | edid[54 + 7] >> 4 << 8, 400);
}

TEST_F(BochsDisplayTest, StateSurvivesAndIsChecked) {
    show(320, 200);
    const std::array<uint8_t, 4> pixel{9, 8, 7, 0};
    display_->bar(0)->io_write(4, pixel);
    SectionWriter out("display", 1);
    display_->save(out);
    auto other =
        BochsDisplay::create(platform_, {.memory_bytes = 1u << 20, .width = 640, .height = 400});
    ASSERT_TRUE(other);
    auto reader = SectionReader::parse(out);
    ASSERT_TRUE(reader);
    ASSERT_TRUE((*other)->load(*reader));
    std::vector<uint32_t> row(320);
    ASSERT_TRUE((*other)->read_row({320, 200}, 0, row));
    EXPECT_EQ(row[1], 0x070809u);

    SectionWriter bad("display", 1);
    bad.bytes(1, std::span<const std::byte>(std::vector<std::byte>(22)));
    bad.bytes(3, std::span<const std::byte>(std::vector<std::byte>(2u << 20)));
    auto bad_reader = SectionReader::parse(bad);
    ASSERT_TRUE(bad_reader);
    EXPECT_FALSE((*other)->load(*bad_reader));
}

TEST(BochsDisplayConfigTest, RefusesWhatDoesNotFit) {
    PlatformFake platform;
    EXPECT_FALSE(BochsDisplay::create(platform, {.memory_bytes = 3u << 20}));
    EXPECT_FALSE(
        BochsDisplay::create(platform, {.memory_bytes = 1u << 20, .width = 1920, .height = 1080}));
    EXPECT_FALSE(BochsDisplay::create(platform, {.width = 4000, .height = 100}));
}

}  // namespace
}  // namespace kumoi::hypervisor
