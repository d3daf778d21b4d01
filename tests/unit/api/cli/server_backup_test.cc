// Backups of stopped servers; tests/integration/disk_jobs_test.py has running ones.
#include "api/cli/server_backup.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <cstdlib>

#include "base/fd.h"
#include "base/file.h"
#include "base/subprocess.h"
#include "tests/support/programs.h"

namespace kumoi::cli {
namespace {

const std::string kUuid = "11111111-2222-4333-8444-555555555555";
const std::string kContent(1 << 20, 'c');

class ServerBackup : public testing::Test {
protected:
    void SetUp() override {
        const std::string img = kumoi_img();
        ASSERT_NE(img, "") << "kumoi-img is not built beside the tests";
        const std::string path = std::getenv("PATH");
        ::setenv("PATH", (img.substr(0, img.rfind('/')) + ":" + path).c_str(), 1);
        session_.options.instances_path = directory_.path();
        ASSERT_TRUE(make_directories(server_).ok());
        ASSERT_TRUE(write_file_atomic(server_ + "/config.json", R"({"name": "web"})").ok());
    }
    void make_disk(bool linked) {
        const std::string file = server_ + (linked ? "/disk.base" : "/disk");
        ASSERT_TRUE(write_file_atomic(file, kContent).ok());
        if (linked) {
            ASSERT_TRUE(run_checked({"kumoi-img", "create", "-b", "disk.base", "-F", "raw",
                                     server_ + "/disk"})
                            .ok());
            ASSERT_TRUE(write_file_atomic(server_ + "/disk.info", R"({"disk":"qcow2"})").ok());
        }
    }
    Result<void> create(bool incremental = false) {
        return backup_server(session_, {"web", backups_, incremental});
    }
    std::string content(const std::string& file, const std::string& format) {
        const std::string flat = directory_.path() + "/flat";
        EXPECT_TRUE(remove_file(flat).ok());
        EXPECT_TRUE(
            run_checked({"kumoi-img", "convert", "-f", format, "-O", "raw", file, flat}).ok());
        auto bytes = read_file(flat);
        return bytes.ok() ? *bytes : "";
    }
    Json manifest() { return *Json::parse(*read_file(backups_ + "/backup.json")); }

    TemporaryDirectory directory_ = TemporaryDirectory::create("server_backup").value();
    const std::string server_ = directory_.path() + "/" + kUuid;
    const std::string backups_ = directory_.path() + "/backups";
    SystemClock clock_;
    Session session_{clock_, {}};
};

TEST_F(ServerBackup, AStoppedServersDiskGoesAndComesBack) {
    for (const bool linked : {false, true}) {
        ASSERT_TRUE(remove_tree(backups_).ok());
        ASSERT_TRUE(remove_file(server_ + "/disk").ok());
        make_disk(linked);
        const auto made = create();
        ASSERT_TRUE(made.ok()) << made.error().text();
        EXPECT_EQ(content(backups_ + "/0001.qcow2", "qcow2"), kContent);
        ASSERT_TRUE(remove_file(server_ + "/disk").ok());
        ASSERT_TRUE(write_file_atomic(server_ + "/disk", "spoiled").ok());
        RestoreOptions restore;
        restore.folder = backups_;
        restore.server = "web";
        const auto restored = restore_backup(session_, restore);
        ASSERT_TRUE(restored.ok()) << restored.error().text();
        EXPECT_EQ(content(server_ + "/disk", linked ? "qcow2" : "raw"), kContent);
        EXPECT_FALSE(path_exists(server_ + "/disk.base"));
        EXPECT_EQ(manifest().find("backups")->as_array()[0].bool_or("tracked"), linked);
    }
}

TEST_F(ServerBackup, AFullBackupStartsTheBitmapAnew) {
    make_disk(true);
    ASSERT_TRUE(create().ok());
    ASSERT_TRUE(create().ok());
    const auto listed = run_checked({"kumoi-img", "bitmap", "list", server_ + "/disk"});
    ASSERT_TRUE(listed.ok());
    const Json bitmaps = *Json::parse(*listed);
    ASSERT_EQ(bitmaps.size(), 1u);
    EXPECT_EQ(bitmaps.as_array()[0].string_or("name"), manifest().string_or("bitmap"));
    EXPECT_TRUE(bitmaps.as_array()[0].bool_or("enabled"));
    EXPECT_FALSE(create(true).ok());  // it is stopped
    EXPECT_EQ(manifest().find("backups")->size(), 2u);
}

TEST_F(ServerBackup, AFolderIsForOneServer) {
    make_disk(false);
    ASSERT_TRUE(create().ok());
    const std::string other = directory_.path() + "/21111111-2222-4333-8444-555555555555";
    ASSERT_TRUE(make_directories(other).ok());
    ASSERT_TRUE(write_file_atomic(other + "/config.json", R"({"name": "other"})").ok());
    const auto refused = backup_server(session_, {"other", backups_, false});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::Conflict);
}

TEST_F(ServerBackup, AServerThatStartsMeanwhileIsNotTouched) {
    make_disk(false);
    ASSERT_TRUE(create().ok());
    const UniqueFd lock = open_file(server_ + "/lock", O_RDWR | O_CREAT, 0600).value();
    ASSERT_EQ(::flock(lock.get(), LOCK_EX), 0);
    EXPECT_FALSE(create().ok());
    EXPECT_EQ(manifest().find("backups")->size(), 1u);  // what failed is not listed
    EXPECT_FALSE(path_exists(backups_ + "/0002.qcow2"));
    RestoreOptions restore;
    restore.folder = backups_;
    restore.server = "web";
    EXPECT_FALSE(restore_backup(session_, restore).ok());
    EXPECT_EQ(*read_file(server_ + "/disk"), kContent);
}

TEST_F(ServerBackup, WhatWasCutShortIsNeverBuiltOn) {
    const auto follows = [](const std::string& backups) {
        return check_incremental(*Json::parse(R"({"backups": )" + backups + "}")).ok();
    };
    EXPECT_FALSE(follows("[]"));
    EXPECT_TRUE(follows(R"([{"id": 1, "state": "whole", "tracked": true}])"));
    EXPECT_FALSE(follows(R"([{"id": 1, "state": "begun", "tracked": true}])"));
    EXPECT_FALSE(follows(R"([{"id": 1, "state": "whole", "tracked": false}])"));
    make_disk(false);
    ASSERT_TRUE(create().ok());
    Json broken = manifest();
    broken.find("backups")->as_array()[0].set("state", "begun");
    ASSERT_TRUE(write_file_atomic(backups_ + "/backup.json", broken.dump()).ok());
    RestoreOptions restore;
    restore.folder = backups_;
    restore.output = directory_.path() + "/out";
    EXPECT_FALSE(restore_backup(session_, restore).ok());
    ASSERT_TRUE(create().ok());  // takes what was cut short away
    EXPECT_FALSE(path_exists(backups_ + "/0001.qcow2"));
    ASSERT_EQ(manifest().find("backups")->size(), 1u);
    EXPECT_EQ(manifest().find("backups")->as_array()[0].integer_or("id"), 2);
    ASSERT_TRUE(write_file_atomic(backups_ + "/backup.json", R"({"format": 9})").ok());
    EXPECT_FALSE(list_backups(session_, backups_).ok());
}

}  // namespace
}  // namespace kumoi::cli
