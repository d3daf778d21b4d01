// When a disk has a lease, under which epoch, and that what kumoi-vmm writes is read right.
#include "compute/driver/disk_leases.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "compute/driver/live_note.h"
#include "hypervisor/block/disk_lease.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::compute {
namespace {

using hypervisor::direct_files;
using hypervisor::DiskLease;

class DiskLeasesTest : public ::testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(make_directories(folder.path(), 0700).ok()); }
    std::string lease(const std::string& id) const { return disk_lease_path(folder, id); }
    // As kumoi-vmm does; given back when the object goes, if it is released.
    std::unique_ptr<DiskLease> held(const std::string& id, uint64_t epoch, const std::string& by) {
        auto taken = DiskLease::acquire(direct_files(), lease(id), epoch, by);
        EXPECT_TRUE(taken.ok()) << taken.error().text();
        return std::move(taken).value();
    }
    static Json guest() {
        Json disks = Json::array();
        disks.push_back(Json::object({{"id", "root"}}));
        disks.push_back(Json::object({{"id", "config"}, {"read_only", true}}));
        disks.push_back(Json::object({{"id", "volume-17"}, {"vhost_user", "/run/d.sock"}}));
        return Json::object({{"disks", std::move(disks)}});
    }
    static const Json* lock(const Json& guest, size_t disk) {
        return guest.find("disks")->as_array()[disk].find("lock");
    }
    TemporaryDirectory directory = TemporaryDirectory::create("leases").value();
    InstanceFolder folder{directory.path(), "6f70656e-0000-4000-8000-000000000001"};
    DiskLeases ours{true, "one"};
};

TEST_F(DiskLeasesTest, ReadsWhatAProcessHasWritten) {
    EXPECT_FALSE(read_disk_lease(lease("root")).value().has_value());
    ASSERT_TRUE(write_file_atomic(lease("root"), "", 0600).ok());
    EXPECT_FALSE(read_disk_lease(lease("root")).value().has_value());
    for (uint64_t epoch = 1; epoch <= 4; ++epoch) {  // both slots, more than once
        auto taken = held("root", epoch, "one");
        auto note = read_disk_lease(lease("root")).value();
        ASSERT_TRUE(note.has_value());
        EXPECT_EQ(note->epoch, epoch);
        EXPECT_EQ(note->owner, "one");
        EXPECT_TRUE(note->held);
        ASSERT_TRUE(taken->release().ok());
        EXPECT_FALSE(read_disk_lease(lease("root")).value()->held);
    }
}

TEST_F(DiskLeasesTest, ATornSlotLeavesTheOtherAndTwoAreAnError) {
    (void)held("root", 1, "one")->release();
    auto text = read_file(lease("root")).value();
    text[600] = text[20] = 'x';  // between the slots; an epoch
    text[2048 + 20] ^= 1;
    ASSERT_TRUE(write_file_atomic(lease("root"), text, 0600).ok());
    EXPECT_EQ(read_disk_lease(lease("root")).error().code, ErrorCode::Corrupt);
    EXPECT_FALSE(ours.claim(folder).ok()) << "who knows whose it is";
    (void)remove_file(lease("root"));
    const auto taken = held("root", 1, "one");
    text = read_file(lease("root")).value();
    ASSERT_TRUE(held("root", 2, "one")->release().ok());
    auto newer = read_file(lease("root")).value();
    const size_t written = newer.compare(0, 512, text, 0, 512) != 0 ? 0 : 2048;
    newer[written + 100] ^= 1;
    ASSERT_TRUE(write_file_atomic(lease("root"), newer, 0600).ok());
    EXPECT_TRUE(read_disk_lease(lease("root")).value().has_value());
}

TEST_F(DiskLeasesTest, EveryDiskThatIsWrittenHasOneUnderTheServersEpoch) {
    Json config = guest();
    DiskLeases().add_locks(config, folder);
    EXPECT_EQ(config.dump(), guest().dump()) << "not where they are not wanted";
    ASSERT_TRUE(write_epoch(folder, 5).ok());
    ours.add_locks(config, folder);
    ASSERT_NE(lock(config, 0), nullptr);
    EXPECT_EQ(lock(config, 0)->string_or("lease"), lease("root"));
    EXPECT_EQ(lock(config, 0)->integer_or("epoch"), 5);
    EXPECT_EQ(lock(config, 0)->string_or("owner"), "one");
    EXPECT_EQ(lock(config, 1), nullptr);
    EXPECT_NE(lock(config, 2), nullptr);
}

TEST_F(DiskLeasesTest, AHostThatTheServerWasTakenFromLosesTheEpoch) {
    const auto lost = held("root", 3, "two");  // it still runs, or thinks so
    (void)held("volume-17", 2, "two")->release();
    ASSERT_TRUE(DiskLeases().claim(folder).ok());
    EXPECT_EQ(read_epoch(folder), 1u);
    ASSERT_TRUE(ours.claim(folder).ok());
    EXPECT_EQ(read_epoch(folder), 4u);
    const auto taken = held("root", read_epoch(folder), "one");
    EXPECT_FALSE(lost->check().ok()) << "its next write fails";
    ASSERT_TRUE(ours.claim(folder).ok());
    EXPECT_EQ(read_epoch(folder), 4u) << "it is ours already";
}

TEST_F(DiskLeasesTest, WhatWasGivenBackIsTakenUnderTheSameEpoch) {
    (void)held("root", 3, "two")->release();
    ASSERT_TRUE(ours.claim(folder).ok());
    EXPECT_EQ(read_epoch(folder), 3u);
    (void)held("root", 3, "one");
}

TEST_F(DiskLeasesTest, AnArrivalHasThoseThatTheSourceHolds) {
    const auto root = held("root", 7, "two");
    (void)held("volume-17", 7, "two")->release();  // of a process without leases
    Json config = guest();
    ours.add_held_locks(config, folder, 7);
    ASSERT_NE(lock(config, 0), nullptr);
    EXPECT_EQ(lock(config, 0)->integer_or("epoch"), 7);
    EXPECT_EQ(lock(config, 0)->string_or("owner"), "one");
    EXPECT_EQ(lock(config, 2), nullptr);
    config = guest();
    ours.add_held_locks(config, folder, 6);
    EXPECT_EQ(lock(config, 0), nullptr);
}

TEST_F(DiskLeasesTest, ThisMachinesOwnFileSystemsAreNotShared) {
    EXPECT_FALSE(is_shared_file_system(directory.path()));
    EXPECT_FALSE(is_shared_file_system("/not/there"));
    EXPECT_TRUE(is_disk_lease("root.lease"));
    EXPECT_FALSE(is_disk_lease("disk"));
}

}  // namespace
}  // namespace kumoi::compute
