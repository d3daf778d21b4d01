#include "hypervisor/scsi/disk.h"

#include <cerrno>

#include <gtest/gtest.h>

#include "tests/support/memory_disk.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kBlocks = 4096;

class ScsiDiskTest : public testing::Test {
protected:
    void SetUp() override {
        EXPECT_EQ(attention({0x00}), 0x2900);  // power on
    }
    ScsiReply run(std::vector<uint8_t> cdb, const std::vector<uint8_t>& parameters = {}) {
        return disk_.execute(cdb, parameters);
    }
    // Additional sense code of a refusal, or 0.
    static uint16_t code(const ScsiReply& reply) {
        return reply.sense.size() < 14
                   ? 0
                   : static_cast<uint16_t>(reply.sense[12] << 8 | reply.sense[13]);
    }
    uint16_t attention(const std::vector<uint8_t>& cdb) {
        const ScsiReply reply = run(cdb);
        return reply.sense.empty() || reply.sense[2] != 6 ? 0 : code(reply);
    }
    static uint64_t number(const std::vector<uint8_t>& bytes, size_t at, size_t size) {
        uint64_t value = 0;
        for (size_t i = 0; i < size; ++i) {
            value = value << 8 | bytes.at(at + i);
        }
        return value;
    }

    MemoryDisk::Shared shared_{kBlocks * 512};
    MemoryDisk image_{shared_};
    std::atomic<bool> cache_{true};
    ScsiDisk disk_{image_, cache_, "serial-1"};
};

TEST_F(ScsiDiskTest, InquiryTellsADiskWithCommandQueuing) {
    const ScsiReply reply = run({0x12, 0, 0, 0, 96, 0});
    ASSERT_EQ(reply.data.size(), 36u);
    EXPECT_EQ(reply.data[0], 0);  // direct access
    EXPECT_EQ(reply.data[2], 7);  // SPC-5
    EXPECT_EQ(reply.data[7] & 2, 2);
    EXPECT_EQ(std::string(reply.data.begin() + 8, reply.data.begin() + 20), "kumoi   DISK");
    EXPECT_EQ(run({0x12, 0, 0, 0, 5, 0}).data.size(), 5u);
    EXPECT_EQ(code(run({0x12, 0, 0x80, 0, 96, 0})), 0x2400);
}

TEST_F(ScsiDiskTest, VitalProductDataNamesSerialAndLimits) {
    EXPECT_EQ(run({0x12, 1, 0, 0, 96, 0}).data,
              (std::vector<uint8_t>{0, 0, 0, 6, 0, 0x80, 0x83, 0xb0, 0xb1, 0xb2}));
    const auto serial = run({0x12, 1, 0x80, 0, 96, 0}).data;
    EXPECT_EQ(std::string(serial.begin() + 4, serial.end()), "serial-1");
    const auto id = run({0x12, 1, 0x83, 0, 96, 0}).data;
    EXPECT_EQ(number(id, 2, 2), id.size() - 4);
    EXPECT_EQ(id[7], 8 + 8);
    EXPECT_EQ(std::string(id.begin() + 8, id.end()), "kumoi   serial-1");
    const auto limits = run({0x12, 1, 0xb0, 0, 96, 0}).data;
    ASSERT_EQ(limits.size(), 64u);
    EXPECT_EQ(number(limits, 8, 4), ScsiDisk::kTransferBytesMax / 512);
    EXPECT_EQ(number(limits, 20, 4), ScsiDisk::kRangeBytesMax / 512);
    EXPECT_EQ(number(limits, 24, 4), 1u);
    EXPECT_EQ(number(limits, 28, 4), 8u);
    EXPECT_EQ(number(limits, 36, 8), ScsiDisk::kRangeBytesMax / 512);
    EXPECT_EQ(number(run({0x12, 1, 0xb1, 0, 96, 0}).data, 4, 2), 1u);  // does not rotate
    EXPECT_EQ(run({0x12, 1, 0xb2, 0, 96, 0}).data[5], 0xe0);
    EXPECT_EQ(code(run({0x12, 1, 0x99, 0, 96, 0})), 0x2400);
}

TEST_F(ScsiDiskTest, ADiskThatCannotDiscardIsNotThin) {
    shared_.can_discard = false;
    EXPECT_EQ(run({0x12, 1, 0, 0, 96, 0}).data.size(), 9u);
    EXPECT_EQ(code(run({0x12, 1, 0xb2, 0, 96, 0})), 0x2400);
    EXPECT_EQ(number(run({0x12, 1, 0xb0, 0, 96, 0}).data, 20, 8), 0u);
    EXPECT_EQ(run({0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32}).data[14], 0);
    EXPECT_EQ(code(run({0x42, 0, 0, 0, 0, 0, 0, 0, 0})), 0x2000);
    EXPECT_EQ(code(run({0x93, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8})), 0x2400);
}

TEST_F(ScsiDiskTest, CapacityIsTheImages) {
    const auto ten = run({0x25}).data;
    EXPECT_EQ(number(ten, 0, 4), kBlocks - 1);
    EXPECT_EQ(number(ten, 4, 4), 512u);
    const auto sixteen = run({0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32}).data;
    ASSERT_EQ(sixteen.size(), 32u);
    EXPECT_EQ(number(sixteen, 0, 8), kBlocks - 1);
    EXPECT_EQ(sixteen[13], 3);            // 4 KiB physical blocks
    EXPECT_EQ(sixteen[14] & 0x80, 0x80);  // thinly provisioned
    EXPECT_EQ(code(run({0x9e, 0x12})), 0x2400);
}

TEST_F(ScsiDiskTest, ReadsAndWritesOfEverySizeNameTheirBytes) {
    const auto expect = [](const ScsiReply& reply, DiskOperation operation, uint64_t block,
                           uint64_t count) {
        ASSERT_TRUE(reply.transfer.has_value());
        EXPECT_EQ(reply.transfer->operation, operation);
        EXPECT_EQ(reply.transfer->offset, block * 512);
        EXPECT_EQ(reply.transfer->size, count * 512);
    };
    expect(run({0x08, 0, 1, 2, 3}), DiskOperation::Read, 258, 3);
    expect(run({0x08, 0, 0, 0, 0}), DiskOperation::Read, 0, 256);
    expect(run({0x0a, 0, 0, 9, 1}), DiskOperation::Write, 9, 1);
    expect(run({0x28, 0, 0, 0, 1, 0, 0, 0, 8}), DiskOperation::Read, 256, 8);
    expect(run({0x2a, 0, 0, 0, 0, 7, 0, 0, 8}), DiskOperation::Write, 7, 8);
    expect(run({0xa8, 0, 0, 0, 0, 7, 0, 0, 0, 2}), DiskOperation::Read, 7, 2);
    expect(run({0xaa, 0, 0, 0, 0, 7, 0, 0, 0, 2}), DiskOperation::Write, 7, 2);
    expect(run({0x88, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2}), DiskOperation::Read, 7, 2);
    expect(run({0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2}), DiskOperation::Write, 7, 2);
    EXPECT_FALSE(run({0x2a, 0, 0, 0, 0, 7}).transfer->durable);
    EXPECT_FALSE(run({0x28, 0, 0, 0, 0, 7, 0, 0, 0}).transfer.has_value());  // nothing to do
    EXPECT_EQ(run({0x35}).transfer->operation, DiskOperation::Flush);
    EXPECT_EQ(run({0x91}).transfer->operation, DiskOperation::Flush);
}

TEST_F(ScsiDiskTest, ForceUnitAccessIsDurable) {
    EXPECT_TRUE(run({0x2a, 8, 0, 0, 0, 7, 0, 0, 1}).transfer->durable);
    EXPECT_FALSE(run({0x2a, 0, 0, 0, 0, 7, 0, 0, 1}).transfer->durable);
    EXPECT_EQ(code(run({0x2a, 0x20, 0, 0, 0, 7, 0, 0, 1})), 0x2400);  // protection information
}

TEST_F(ScsiDiskTest, WhatLeavesTheDiskIsRefused) {
    EXPECT_EQ(code(run({0x28, 0, 0, 0, 0x10, 0, 0, 0, 1})), 0x2100);
    EXPECT_EQ(code(run({0x28, 0, 0, 0, 0x0f, 0xff, 0, 0, 2})), 0x2100);
    EXPECT_EQ(code(run({0x88, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255})),
              0x2100);
    EXPECT_EQ(code(run({0x8f, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 1})), 0x2100);
    EXPECT_EQ(code(run({0x35, 0, 0, 0, 0x10, 1})), 0x2100);
    EXPECT_EQ(code(run({0xf7})), 0x2000);
}

TEST_F(ScsiDiskTest, AReadOnlyDiskIsProtected) {
    shared_.read_only = true;
    const ScsiReply refused = run({0x2a, 0, 0, 0, 0, 7, 0, 0, 1});
    EXPECT_EQ(refused.sense[2], 7);
    EXPECT_EQ(code(refused), 0x2700);
    EXPECT_EQ(run({0x1a, 0, 0x3f, 0, 255}).data[2] & 0x80, 0x80);
    EXPECT_TRUE(run({0x28, 0, 0, 0, 0, 7, 0, 0, 1}).transfer.has_value());
}

TEST_F(ScsiDiskTest, UnmapTakesOneDescriptor) {
    std::vector<uint8_t> list = {0, 22, 0, 16, 0, 0, 0, 0,  0, 0, 0, 0,
                                 0, 0,  0, 8,  0, 0, 0, 16, 0, 0, 0, 0};
    const std::vector<uint8_t> cdb = {0x42, 0, 0, 0, 0, 0, 0, 0, 24};
    EXPECT_EQ(disk_.parameter_size(cdb), 24u);
    const ScsiReply reply = run(cdb, list);
    ASSERT_TRUE(reply.transfer.has_value());
    EXPECT_EQ(reply.transfer->operation, DiskOperation::Discard);
    EXPECT_EQ(reply.transfer->offset, 8u * 512);
    EXPECT_EQ(reply.transfer->size, 16u * 512);
    list[8] = 1;  // far outside
    EXPECT_EQ(code(run(cdb, list)), 0x2100);
    EXPECT_EQ(code(run(cdb, {0, 0, 0})), 0x1a00);
    EXPECT_FALSE(run(cdb, {0, 6, 0, 0, 0, 0, 0, 0}).transfer.has_value());
    list[3] = 32;
    list.resize(40);
    EXPECT_EQ(code(run(cdb, list)), 0x2600);
}

TEST_F(ScsiDiskTest, WriteSameWritesZeroesOrAPattern) {
    const std::vector<uint8_t> zeros(512);
    const std::vector<uint8_t> cdb = {0x41, 8, 0, 0, 0, 2, 0, 0, 4};
    EXPECT_EQ(disk_.parameter_size(cdb), 512u);
    const ScsiReply unmap = run(cdb, zeros);
    EXPECT_EQ(unmap.transfer->operation, DiskOperation::WriteZeroes);
    EXPECT_TRUE(unmap.transfer->may_unmap);
    EXPECT_EQ(unmap.transfer->size, 4u * 512);
    const std::vector<uint8_t> no_data = {0x93, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4};
    EXPECT_EQ(disk_.parameter_size(no_data), 0u);
    EXPECT_FALSE(run(no_data).transfer->may_unmap);
    std::vector<uint8_t> block(512, 0xa5);
    const ScsiReply pattern = run({0x41, 0, 0, 0, 0, 2, 0, 0, 4}, block);
    EXPECT_EQ(pattern.transfer->operation, DiskOperation::Write);
    EXPECT_EQ(pattern.transfer->pattern, std::vector<std::byte>(4 * 512, std::byte{0xa5}));
    EXPECT_EQ(code(run({0x41, 0, 0, 0, 0, 2, 0, 0, 0}, zeros)), 0x2400);  // no length
    EXPECT_EQ(code(run({0x41, 0, 0, 0, 0x10, 2, 0, 0, 1}, zeros)), 0x2100);
}

TEST_F(ScsiDiskTest, TheWriteCacheIsTheDriversToTurnOff) {
    const auto sense = run({0x1a, 0, 8, 0, 255}).data;
    ASSERT_EQ(sense.size(), 4u + 8 + 20);
    EXPECT_EQ(number(sense, 4, 4), kBlocks);
    EXPECT_EQ(sense[12], 8);
    EXPECT_EQ(sense[14], 4);
    EXPECT_EQ(run({0x1a, 8, 8, 0, 255}).data.size(), 4u + 20);           // no block descriptor
    EXPECT_EQ(run({0x5a, 8, 0x48, 0, 0, 0, 0, 0, 255}).data[8 + 2], 4);  // may be changed
    std::vector<uint8_t> list(4 + 20);
    list[4] = 8;
    list[5] = 0x12;
    EXPECT_EQ(run({0x15, 0x10, 0, 0, 24}, list).status, scsi::kGood);
    EXPECT_FALSE(cache_);
    EXPECT_EQ(run({0x1a, 0, 8, 0, 255}).data[14], 0);
    list[6] = 4;
    EXPECT_EQ(run({0x15, 0x10, 0, 0, 24}, list).status, scsi::kGood);
    EXPECT_TRUE(cache_);
    list[7] = 1;  // what cannot be changed
    EXPECT_EQ(code(run({0x15, 0x10, 0, 0, 24}, list)), 0x2600);
    list[5] = 0x7f;
    EXPECT_EQ(code(run({0x15, 0x10, 0, 0, 24}, list)), 0x1a00);
    EXPECT_EQ(code(run({0x15, 0, 0, 0, 24}, list)), 0x2400);
    EXPECT_EQ(code(run({0x1a, 0, 0xc8, 0, 255})), 0x3900);  // saved values
    EXPECT_EQ(code(run({0x1a, 0, 0x1c, 0, 255})), 0x2400);
}

TEST_F(ScsiDiskTest, UnitAttentionsAreToldOnce) {
    disk_.capacity_changed();
    EXPECT_EQ(run({0x12, 0, 0, 0, 96, 0}).status, scsi::kGood);  // whatever has happened
    EXPECT_EQ(attention({0x28, 0, 0, 0, 0, 0, 0, 0, 1}), 0x2a09);
    EXPECT_EQ(run({0x28, 0, 0, 0, 0, 0, 0, 0, 1}).status, scsi::kGood);
    disk_.logical_unit_reset();
    const auto sense = run({0x03, 0, 0, 0, 18}).data;  // asked for, and so told
    EXPECT_EQ(sense[2], 6);
    EXPECT_EQ(number(sense, 12, 2), 0x2903u);
    EXPECT_EQ(run({0x00}).status, scsi::kGood);
    EXPECT_EQ(run({0x03, 0, 0, 0, 18}).data[2], 0);
}

TEST_F(ScsiDiskTest, FailuresOfTheHostAreSense) {
    EXPECT_EQ(code(disk_.failed(DiskOperation::Read, -EIO)), 0x1100);
    EXPECT_EQ(code(disk_.failed(DiskOperation::Write, -EIO)), 0x0c00);
    EXPECT_EQ(code(disk_.failed(DiskOperation::Write, -ENOSPC)), 0x2707);
}

TEST_F(ScsiDiskTest, AnyCommandIsAnsweredInsideTheDisk) {
    for (unsigned opcode = 0; opcode < 256; ++opcode) {
        for (const uint8_t fill : {0x00, 0x01, 0x08, 0x10, 0x7f, 0xff}) {
            std::vector<uint8_t> cdb(16, fill);
            cdb[0] = static_cast<uint8_t>(opcode);
            const std::vector<uint8_t> parameters(
                std::min<size_t>(disk_.parameter_size(cdb), scsi::kParameterBytesMax), fill);
            const ScsiReply reply = run(cdb, parameters);
            EXPECT_EQ(reply.sense.empty(), reply.status == scsi::kGood);
            if (reply.transfer) {
                EXPECT_LE(reply.transfer->offset + reply.transfer->size, kBlocks * 512);
            }
        }
    }
}

}  // namespace
}  // namespace kumoi::hypervisor
