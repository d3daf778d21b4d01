#include "hypervisor/scsi/cdrom.h"

#include <gtest/gtest.h>

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kSize = 700 * 2048;

uint64_t big(const std::vector<uint8_t>& bytes, size_t offset, size_t size) {
    uint64_t value = 0;
    for (size_t i = 0; i < size; ++i) {
        value = value << 8 | bytes.at(offset + i);
    }
    return value;
}

ScsiReply run(Cdrom& drive, std::initializer_list<uint8_t> cdb) {
    const std::vector<uint8_t> bytes(cdb);
    return drive.execute(bytes, {});
}

void expect_sense(const ScsiReply& reply, uint8_t key, uint8_t code) {
    EXPECT_EQ(reply.status, scsi::kCheckCondition);
    ASSERT_EQ(reply.sense.size(), scsi::kSenseSize);
    EXPECT_EQ(reply.sense[2], key);
    EXPECT_EQ(reply.sense[12], code);
}

TEST(Cdrom, SaysThatItIsARemovableCdDrive) {
    Cdrom drive(kSize, "cd0");
    const auto reply = run(drive, {0x12, 0, 0, 0, 36, 0});
    ASSERT_EQ(reply.data.size(), 36u);
    EXPECT_EQ(reply.data[0], 0x05);
    EXPECT_EQ(reply.data[1], 0x80);
    EXPECT_EQ(run(drive, {0x12, 0, 0, 0, 5, 0}).data.size(), 5u);  // as much as was asked for
    const auto serial = run(drive, {0x12, 1, 0x80, 0, 255, 0});
    EXPECT_EQ(std::string(serial.data.begin() + 4, serial.data.end()), "cd0");
    expect_sense(run(drive, {0x12, 1, 0x99, 0, 255, 0}), 5, 0x24);
}

TEST(Cdrom, ReadsExtentsOfItsImage) {
    Cdrom drive(kSize, "cd0");
    const auto capacity = run(drive, {0x25});
    EXPECT_EQ(big(capacity.data, 0, 4), 699u);
    EXPECT_EQ(big(capacity.data, 4, 4), 2048u);
    const auto ten = run(drive, {0x28, 0, 0, 0, 0, 16, 0, 0, 2, 0});
    ASSERT_TRUE(ten.transfer.has_value());
    EXPECT_EQ(ten.transfer->offset, 16u * 2048);
    EXPECT_EQ(ten.transfer->size, 2u * 2048);
    const auto twelve = run(drive, {0xa8, 0, 0, 0, 2, 0xbb, 0, 0, 0, 1, 0, 0});
    ASSERT_TRUE(twelve.transfer.has_value());
    EXPECT_EQ(twelve.transfer->offset, 699u * 2048);
    expect_sense(run(drive, {0x28, 0, 0, 0, 2, 0xbb, 0, 0, 2, 0}), 5, 0x21);  // one too many
    expect_sense(run(drive, {0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), 5, 0x21);
    EXPECT_FALSE(run(drive, {0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0}).transfer.has_value());  // nothing
}

TEST(Cdrom, WithoutAMediumItIsNotReady) {
    Cdrom drive(0, "cd0");
    for (const uint8_t opcode : {0x00, 0x25, 0x28, 0x43, 0x51}) {
        expect_sense(run(drive, {opcode}), 2, 0x3a);
    }
    EXPECT_EQ(run(drive, {0x12, 0, 0, 0, 36, 0}).status, scsi::kGood);
}

TEST(Cdrom, EjectsUnlessLockedAndResetClosesTheTray) {
    Cdrom drive(kSize, "cd0");
    run(drive, {0x1e, 0, 0, 0, 1, 0});  // prevent removal
    expect_sense(run(drive, {0x1b, 0, 0, 0, 2, 0}), 5, 0x53);
    run(drive, {0x1e, 0, 0, 0, 0, 0});
    EXPECT_EQ(run(drive, {0x1b, 0, 0, 0, 2, 0}).status, scsi::kGood);
    EXPECT_TRUE(drive.ejected());
    expect_sense(run(drive, {0x00}), 2, 0x3a);
    EXPECT_EQ(run(drive, {0x1b, 0, 0, 0, 3, 0}).status, scsi::kGood);  // load
    EXPECT_EQ(run(drive, {0x00}).status, scsi::kGood);
    run(drive, {0x1b, 0, 0, 0, 2, 0});
    drive.reset();
    EXPECT_EQ(run(drive, {0x00}).status, scsi::kGood);
}

TEST(Cdrom, TocHasOneDataTrackAndALeadOut) {
    Cdrom drive(kSize, "cd0");
    const auto toc = run(drive, {0x43, 0, 0, 0, 0, 0, 0, 0, 255, 0});
    EXPECT_EQ(big(toc.data, 0, 2), toc.data.size() - 2);
    EXPECT_EQ(toc.data[5], 0x14);
    EXPECT_EQ(toc.data[14], 0xaa);
    EXPECT_EQ(big(toc.data, 16, 4), 700u);
    const auto time = run(drive, {0x43, 2, 0, 0, 0, 0, 0xaa, 0, 255, 0});
    EXPECT_EQ(big(time.data, 8, 4), 0x00'00'0b'19u);  // 850 frames: 0:11.25
    const auto session = run(drive, {0x43, 0, 1, 0, 0, 0, 0, 0, 255, 0});
    EXPECT_EQ(session.data.size(), 12u);
    expect_sense(run(drive, {0x43, 0, 5, 0, 0, 0, 0, 0, 255, 0}), 5, 0x24);
}

TEST(Cdrom, ConfigurationNamesItsProfile) {
    Cdrom drive(kSize, "cd0");
    EXPECT_EQ(big(run(drive, {0x46, 0, 0, 0, 0, 0, 0, 1, 0, 0}).data, 6, 2), 0x08u);
    Cdrom dvd(4ull << 30, "cd0");
    EXPECT_EQ(big(run(dvd, {0x46, 0, 0, 0, 0, 0, 0, 1, 0, 0}).data, 6, 2), 0x10u);
    Cdrom empty(0, "cd0");
    const auto none = run(empty, {0x46, 0, 0, 0, 0, 0, 0, 1, 0, 0});
    EXPECT_EQ(big(none.data, 6, 2), 0u);
    EXPECT_EQ(big(none.data, 0, 4), none.data.size() - 4);
}

TEST(Cdrom, TellsOfANewMediumOnce) {
    Cdrom drive(kSize, "cd0");
    EXPECT_EQ(run(drive, {0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0}).data[4], 2);
    const auto later = run(drive, {0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0});
    EXPECT_EQ(later.data[4], 0);
    EXPECT_EQ(later.data[5], 2);  // present, tray closed
    expect_sense(run(drive, {0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8, 0}), 5, 0x24);
}

TEST(Cdrom, ModePagesAndUnknownOnes) {
    Cdrom drive(kSize, "cd0");
    const auto six = run(drive, {0x1a, 0, 0x2a, 0, 255, 0});
    EXPECT_EQ(six.data[0] + 1u, six.data.size());
    EXPECT_EQ(six.data[4], 0x2a);
    const auto ten = run(drive, {0x5a, 0, 0x3f, 0, 0, 0, 0, 1, 0, 0});
    EXPECT_EQ(big(ten.data, 0, 2) + 2, ten.data.size());
    expect_sense(run(drive, {0x1a, 0, 0x11, 0, 255, 0}), 5, 0x24);
}

TEST(Cdrom, EveryCommandAndGarbageIsAnswered) {
    Cdrom drive(kSize, "cd0");
    for (unsigned opcode = 0; opcode < 256; ++opcode) {
        for (const uint8_t fill : {0x00, 0x01, 0x5a, 0xff}) {
            std::vector<uint8_t> cdb(16, fill);
            cdb[0] = static_cast<uint8_t>(opcode);
            const auto reply = drive.execute(cdb, {});
            EXPECT_EQ(reply.status == scsi::kCheckCondition, !reply.sense.empty());
            if (reply.transfer) {
                EXPECT_LE(reply.transfer->offset + reply.transfer->size, kSize);
            }
        }
    }
    expect_sense(run(drive, {0xee}), 5, 0x20);
    EXPECT_EQ(drive.execute({}, {}).status, scsi::kGood);  // zeros are TEST UNIT READY
}

TEST(Cdrom, StateGoesToAnotherDrive) {
    Cdrom drive(kSize, "cd0");
    run(drive, {0x1b, 0, 0, 0, 2, 0});
    SectionWriter out("cdrom", 1);
    drive.save(out);
    Cdrom other(kSize, "cd0");
    SectionReader in = SectionReader::parse(out).value();
    ASSERT_TRUE(other.load(in).ok());
    EXPECT_TRUE(other.ejected());
    EXPECT_TRUE(in.finish().ok());
}

}  // namespace
}  // namespace kumoi::hypervisor
