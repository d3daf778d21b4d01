#include "compute/driver/disk_transfer.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/json.h"

namespace kumoi::compute {
namespace {

const std::string kUuid = "11111111-2222-4333-8444-555555555555";

class DiskTransferTest : public testing::Test {
protected:
    DiskTransferTest() {
        EXPECT_TRUE(make_directories(folder()).ok());
        EXPECT_TRUE(write_file_atomic(folder() + "/disk", "precious").ok());
        EXPECT_TRUE(write_file_atomic(folder() + "/lock", "").ok());
    }
    std::string folder() const { return directory_.path() + "/source/" + kUuid + "_resize"; }
    std::string target() const { return directory_.path() + "/target/" + kUuid + "_incoming"; }
    DiskTransferOptions options(const std::string& side) const {
        DiskTransferOptions options;
        options.folder = directory_.path() + "/" + side + "/_moves";
        options.attempts_max = 2;
        return options;
    }
    std::unique_ptr<DiskTransfer> make(const std::string& side) {
        return std::make_unique<DiskTransfer>(options(side), clock_, random_, [](int64_t) {});
    }
    static Result<std::vector<std::string>> files(const std::string&) {
        return std::vector<std::string>{"disk"};
    }

    SystemClock clock_;
    SystemRandom random_;
    TemporaryDirectory directory_ = TemporaryDirectory::create("disks").value();
    std::unique_ptr<DiskTransfer> source_ = make("source");
    std::unique_ptr<DiskTransfer> target_ = make("target");
};

TEST_F(DiskTransferTest, AFolderGoesToWhoeverHasItsTicket) {
    const auto ticket = source_->offer(kUuid, "move-1", folder(), {"disk"});
    ASSERT_TRUE(ticket.ok()) << ticket.error().text();
    const auto report = target_->receive(kUuid, *ticket, target());
    ASSERT_TRUE(report.ok()) << report.error().text();
    EXPECT_EQ(*read_file(target() + "/disk"), "precious");
    EXPECT_FALSE(path_exists(target() + "/lock"));
    EXPECT_EQ(*source_->offer(kUuid, "move-1", folder(), {"disk"}), *ticket);  // the same again
    source_->withdraw(kUuid);
    ASSERT_TRUE(remove_tree(target()).ok());
    EXPECT_FALSE(target_->receive(kUuid, *ticket, target()).ok());
}

TEST_F(DiskTransferTest, EveryMoveHasAKeyOfItsOwn) {
    const std::string first = *source_->offer(kUuid, "move-1", folder(), {"disk"});
    const std::string second = *source_->offer(kUuid, "move-2", folder(), {"disk"});
    EXPECT_NE(Json::parse(first)->string_or("key"), Json::parse(second)->string_or("key"));
    EXPECT_EQ(Json::parse(second)->string_or("identity"), "move-2");
}

TEST_F(DiskTransferTest, BothSidesGoOnAfterARestart) {
    const std::string ticket = *source_->offer(kUuid, "move-1", folder(), {"disk"});
    source_.reset();
    EXPECT_FALSE(target_->receive(kUuid, ticket, target()).ok());
    source_ = make("source");
    ASSERT_TRUE(source_->load(files).ok());
    target_ = make("target");
    ASSERT_TRUE(target_->receive(kUuid, "", target()).ok());  // as it was told before
    EXPECT_EQ(*read_file(target() + "/disk"), "precious");
    target_->forget(kUuid);
    EXPECT_FALSE(target_->receive(kUuid, "", target()).ok());
}

TEST_F(DiskTransferTest, AnOfferWhoseFolderIsGoneIsForgotten) {
    ASSERT_TRUE(source_->offer(kUuid, "move-1", folder(), {"disk"}).ok());
    source_ = make("source");
    ASSERT_TRUE(remove_tree(folder()).ok());
    ASSERT_TRUE(source_->load(files).ok());
    EXPECT_TRUE(list_directory(options("source").folder)->empty());
}

TEST_F(DiskTransferTest, WhatIsNoTicketIsRefused) {
    for (const char* text :
         {"", "null", "[]", "{\"format\":\"libvirt\"}", "not json",
          R"({"format":"kumoi-folder-1","identity":"a","key":"eA==","address":"::1","port":1})",
          R"({"format":"kumoi-folder-1","identity":"a","key":"eA==","address":"::1","port":0})"}) {
        EXPECT_FALSE(target_->receive(kUuid, text, target()).ok()) << text;
    }
}

}  // namespace
}  // namespace kumoi::compute
