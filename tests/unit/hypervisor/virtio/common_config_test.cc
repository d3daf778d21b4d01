#include "hypervisor/virtio/common_config.h"

#include <gtest/gtest.h>

#include <cstring>

namespace kumoi::hypervisor {
namespace {

using Effect = CommonConfig::Effect;

class CommonConfigTest : public testing::Test {
protected:
    template <class T>
    Effect write(uint64_t offset, T value) {
        uint8_t data[sizeof(T)];
        std::memcpy(data, &value, sizeof(T));
        return config_.write(offset, data);
    }
    template <class T>
    T read(uint64_t offset) {
        uint8_t data[sizeof(T)];
        config_.read(offset, data, live_);
        T value;
        std::memcpy(&value, data, sizeof(T));
        return value;
    }
    Effect status(uint8_t value) { return write<uint8_t>(20, value); }
    void negotiate(uint64_t features) {
        write<uint32_t>(8, 0);
        write<uint32_t>(12, static_cast<uint32_t>(features));
        write<uint32_t>(8, 1);
        write<uint32_t>(12, static_cast<uint32_t>(features >> 32));
    }
    void up_to_features_ok() {
        status(3);
        negotiate(virtio::kFeatureVersion1 | 2);
        status(11);
        ASSERT_EQ(read<uint8_t>(20), 11);
    }

    CommonConfig config_{virtio::kFeatureVersion1 | 2, {256, 128}, 3};
    CommonConfig::Live live_;
};

TEST_F(CommonConfigTest, FeaturesOkIsRefusedWithoutVersion1) {
    status(3);
    negotiate(2);
    status(11);
    EXPECT_EQ(read<uint8_t>(20), 3);
}

TEST_F(CommonConfigTest, FeaturesOkIsRefusedForFeaturesNotOffered) {
    status(3);
    negotiate(virtio::kFeatureVersion1 | 4);
    status(11);
    EXPECT_EQ(read<uint8_t>(20), 3);
}

TEST_F(CommonConfigTest, StatusStepsCannotBeSkipped) {
    EXPECT_EQ(status(2), Effect::None);  // driver without acknowledge
    EXPECT_EQ(read<uint8_t>(20), 0);
    negotiate(virtio::kFeatureVersion1);
    EXPECT_EQ(status(1 | 2 | 4), Effect::None);  // driver ok without features ok
    EXPECT_EQ(read<uint8_t>(20), 3);
}

TEST_F(CommonConfigTest, StatusBitsAreTakenBackOnlyByReset) {
    up_to_features_ok();
    EXPECT_EQ(status(1), Effect::None);
    EXPECT_EQ(read<uint8_t>(20), 11);
    EXPECT_EQ(status(0), Effect::Reset);
    EXPECT_EQ(read<uint8_t>(20), 0);
}

TEST_F(CommonConfigTest, DriverOkHappensOnce) {
    up_to_features_ok();
    EXPECT_EQ(status(15), Effect::DriverOk);
    EXPECT_EQ(status(15), Effect::None);
    EXPECT_EQ(status(15 | 128), Effect::None);
    EXPECT_EQ(read<uint8_t>(20), 143);
}

TEST_F(CommonConfigTest, NeedsResetComesFromTheDeviceOnly) {
    status(1 | 64);
    EXPECT_EQ(read<uint8_t>(20), 1);
    live_.status_bits = 64;
    EXPECT_EQ(read<uint8_t>(20), 65);
    EXPECT_EQ(status(3 | 64), Effect::None);  // the driver writes back what it read
    EXPECT_EQ(read<uint8_t>(20), 67);
}

TEST_F(CommonConfigTest, FeaturesAreFixedAfterFeaturesOk) {
    up_to_features_ok();
    negotiate(virtio::kFeatureVersion1);
    EXPECT_EQ(config_.features(), virtio::kFeatureVersion1 | 2);
}

TEST_F(CommonConfigTest, FeatureWindowsBeyondTheSecondAreEmpty) {
    for (const uint32_t select : {2u, 31u, 0xffff'ffffu}) {
        write<uint32_t>(0, select);
        EXPECT_EQ(read<uint32_t>(4), 0u);
        write<uint32_t>(8, select);
        write<uint32_t>(12, 0xffff'ffff);
        EXPECT_EQ(config_.features(), 0u);
    }
}

TEST_F(CommonConfigTest, QueuesAreSetUpOnlyBetweenFeaturesOkAndDriverOk) {
    write<uint64_t>(32, 0x1000);
    write<uint16_t>(28, 1);
    EXPECT_EQ(read<uint64_t>(32), 0u);
    EXPECT_EQ(read<uint16_t>(28), 0u);
    up_to_features_ok();
    write<uint64_t>(32, 0x1000);
    write<uint32_t>(40, 0x2000);
    write<uint32_t>(44, 1);
    write<uint64_t>(48, 0x3000);
    write<uint16_t>(24, 64);
    write<uint16_t>(28, 1);
    write<uint64_t>(32, 0x9000);  // enabled: fixed
    status(15);
    write<uint16_t>(22, 1);
    write<uint16_t>(28, 1);  // too late
    const auto queues = config_.enabled_queues();
    ASSERT_EQ(queues.size(), 1u);
    EXPECT_EQ(queues[0].size, 64u);
    EXPECT_EQ(queues[0].descriptor_gpa, 0x1000u);
    EXPECT_EQ(queues[0].available_gpa, 0x1'0000'2000u);
    EXPECT_EQ(queues[0].used_gpa, 0x3000u);
}

TEST_F(CommonConfigTest, QueueSizesMustBePowersOfTwoUpToTheOffer) {
    up_to_features_ok();
    for (const uint16_t size : {0, 3, 257, 512, 65535}) {
        write<uint16_t>(24, size);
        EXPECT_EQ(read<uint16_t>(24), 256u) << size;
    }
}

TEST_F(CommonConfigTest, QueueSelectOutOfRangeReadsZeroAndWritesNothing) {
    up_to_features_ok();
    for (const uint16_t select : {2, 3, 0x8000, 0xffff}) {
        write<uint16_t>(22, select);
        EXPECT_EQ(read<uint16_t>(24), 0u);
        EXPECT_EQ(read<uint16_t>(28), 0u);
        write<uint16_t>(28, 1);
        write<uint64_t>(32, ~uint64_t{0});
    }
    EXPECT_TRUE(config_.enabled_queues().empty());
}

TEST_F(CommonConfigTest, VectorsOutOfRangeReadBackAsNone) {
    write<uint16_t>(16, 2);
    EXPECT_EQ(read<uint16_t>(16), 2u);
    write<uint16_t>(16, 3);
    EXPECT_EQ(read<uint16_t>(16), 0xffffu);
    write<uint16_t>(26, 1);
    EXPECT_EQ(config_.queue_vector(0), 1u);
    write<uint16_t>(26, 0x7000);
    EXPECT_EQ(config_.queue_vector(0), 0xffffu);
}

TEST_F(CommonConfigTest, OddWidthsAndOffsetsAreSafe) {
    up_to_features_ok();
    for (uint64_t offset = 0; offset < 80; ++offset) {
        read<uint8_t>(offset);
        read<uint16_t>(offset);
        read<uint64_t>(offset);
        if (offset != 20) {
            write<uint8_t>(offset, 0xff);
        }
        write<uint32_t>(offset | 1, 0xffff'ffff);
    }
    write<uint32_t>(20, 0);  // not the status register's width
    EXPECT_EQ(read<uint8_t>(20), 11);
    EXPECT_TRUE(config_.enabled_queues().empty());
    EXPECT_EQ(read<uint64_t>(~uint64_t{0} - 3), 0u);
}

TEST_F(CommonConfigTest, ResetForgetsEverything) {
    up_to_features_ok();
    write<uint64_t>(32, 0x1000);
    write<uint16_t>(16, 1);
    write<uint16_t>(28, 1);
    EXPECT_EQ(status(0), Effect::Reset);
    EXPECT_EQ(config_.features(), 0u);
    EXPECT_EQ(read<uint64_t>(32), 0u);
    EXPECT_EQ(read<uint16_t>(16), 0xffffu);
    EXPECT_TRUE(config_.enabled_queues().empty());
}

}  // namespace
}  // namespace kumoi::hypervisor
