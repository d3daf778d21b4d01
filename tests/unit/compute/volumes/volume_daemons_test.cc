// Back ends of volumes with the real qemu-storage-daemon, on files of this host: they are found
// again, started again, grow, are exchanged and go.
#include "compute/volumes/volume_daemons.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <condition_variable>

#include "base/file.h"
#include "base/subprocess.h"
#include "base/unix_socket.h"

namespace kumoi::compute {
namespace {

constexpr char kServer[] = "11111111-2222-4333-8444-555555555555";
constexpr uint64_t kSize = 4u << 20;

class Daemons : public testing::Test {
protected:
    void SetUp() override {
        const auto program = find_program("qemu-storage-daemon");
        if (!program.ok()) {
            GTEST_SKIP() << "no qemu-storage-daemon here";
        }
        options_.folder = directory_.path() + "/v";
        options_.host = "cn-1";
        options_.host_ip = "10.0.0.1";
        options_.daemon.program = *program;
        for (const char* name : {"a", "b"}) {
            ASSERT_TRUE(write_file_atomic(file(name), "").ok());
            ASSERT_EQ(::truncate(file(name).c_str(), kSize), 0);
        }
        start();
    }
    void TearDown() override {
        for (const auto& [server, volume] :
             host_ ? host_->connected() : std::set<VolumeHost::Connected>()) {
            EXPECT_TRUE(host_->disconnect(server, volume).ok());
        }
    }
    void start() {
        host_.reset();
        host_ = VolumeDaemons::create(options_, random_).value();
        host_->start([this](const std::string&, const std::string& volume) {
            const std::lock_guard lock(mutex_);
            restarted_.push_back(volume);
            changed_.notify_all();
        });
    }
    std::string file(const std::string& name) const { return directory_.path() + "/" + name; }
    Json info(const std::string& name) const {
        return Json::object({{"driver_volume_type", "local"},
                             {"data", Json::object({{"device_path", file(name)}})}});
    }
    StorageDaemon::Record record(const std::string& socket) const {
        const std::string folder = socket.substr(0, socket.rfind("/run/"));
        return StorageDaemon::read_record(folder).value();
    }
    void wait_restart(size_t count) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return restarted_.size() >= count; });
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("vd").value();
    SystemRandom random_;
    VolumeDaemonsOptions options_;
    std::unique_ptr<VolumeDaemons> host_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> restarted_;
};

TEST_F(Daemons, AreTheSameAsLongAsTheirVolumeIs) {
    const std::string socket = host_->connect(kServer, "a", info("a")).value();
    EXPECT_TRUE(connect_unix(socket).ok());
    EXPECT_EQ(host_->connect(kServer, "a", info("a")).value(), socket);
    const pid_t pid = record(socket).pid;
    start();  // this program was restarted
    EXPECT_EQ(host_->connected().size(), 1u);
    EXPECT_EQ(host_->connect(kServer, "a", info("a")).value(), socket);
    EXPECT_EQ(record(socket).pid, pid);
    ASSERT_TRUE(host_->disconnect(kServer, "a").ok());
    EXPECT_FALSE(process_alive(pid));
    EXPECT_FALSE(path_exists(socket));
    EXPECT_TRUE(host_->connected().empty());
    EXPECT_TRUE(host_->disconnect(kServer, "a").ok());
}

TEST_F(Daemons, OneThatDiesIsStartedAgain) {
    const std::string socket = host_->connect(kServer, "a", info("a")).value();
    const pid_t pid = record(socket).pid;
    ::kill(pid, SIGKILL);
    wait_restart(1);
    EXPECT_NE(record(socket).pid, pid);
    EXPECT_TRUE(connect_unix(socket).ok());
}

TEST_F(Daemons, OneThatDiedWhileNobodyWatchedIsStartedAgain) {
    const std::string socket = host_->connect(kServer, "a", info("a")).value();
    const pid_t pid = record(socket).pid;
    host_.reset();
    ::kill(pid, SIGKILL);
    start();
    wait_restart(1);
    EXPECT_TRUE(connect_unix(socket).ok());
}

TEST_F(Daemons, AVolumeThatIsNotThereLeavesNothing) {
    const auto connected = host_->connect(kServer, "c", info("c"));
    ASSERT_FALSE(connected.ok());
    EXPECT_EQ(connected.error().fault, "VolumeAttachFailed");
    EXPECT_NE(connected.error().text().find(file("c")), std::string::npos);
    EXPECT_TRUE(host_->connected().empty());
    for (const std::string& name : list_directory(options_.folder).value()) {
        EXPECT_EQ(name, "initiatorname.iscsi");
    }
}

TEST_F(Daemons, AVolumeGrows) {
    const std::string socket = host_->connect(kServer, "a", info("a")).value();
    ASSERT_EQ(::truncate(file("a").c_str(), 2 * kSize), 0);
    EXPECT_TRUE(host_->extend(kServer, "a", 2 * kSize).ok());
    EXPECT_EQ(host_->extend(kServer, "b", kSize).error().fault, "DiskNotFound");
}

TEST_F(Daemons, TwoVolumesAreExchangedBehindOneSocket) {
    ASSERT_TRUE(write_file_atomic(file("a"), std::string(kSize, 'x')).ok());
    const std::string socket = host_->connect(kServer, "a", info("a")).value();
    const auto swapped = host_->swap(kServer, "a", "b", info("b"));
    ASSERT_TRUE(swapped.ok()) << swapped.error().text();
    EXPECT_EQ(read_file(file("b")).value(), std::string(kSize, 'x'));
    const std::set<VolumeHost::Connected> now = {{kServer, "b"}};
    EXPECT_EQ(host_->connected(), now);
    EXPECT_EQ(record(socket).volume_id, "b");
    start();
    EXPECT_EQ(host_->connect(kServer, "b", info("b")).value(), socket);
    ASSERT_TRUE(host_->rename(kServer, "b", "a").ok());
    EXPECT_TRUE(host_->connected().contains({kServer, "a"}));
    // And back, with the names the other way round.
    const auto back = host_->swap(kServer, "a", "b", info("a"));
    ASSERT_TRUE(back.ok()) << back.error().text();
}

TEST_F(Daemons, AFailedExchangeServesTheOldOne) {
    const std::string socket = host_->connect(kServer, "a", info("a")).value();
    const auto swapped = host_->swap(kServer, "a", "c", info("c"));
    ASSERT_FALSE(swapped.ok());
    EXPECT_TRUE(host_->connected().contains({kServer, "a"}));
    EXPECT_TRUE(record(socket).next_volume_id.empty());
    EXPECT_TRUE(host_->swap(kServer, "a", "b", info("b")).ok());  // and may be tried again
}

TEST_F(Daemons, TheHostTellsWhoItIs) {
    const Json connector = host_->connector().value();
    EXPECT_EQ(connector.string_or("ip"), "10.0.0.1");
    EXPECT_EQ(connector.string_or("host"), "cn-1");
    EXPECT_EQ(connector.bool_or("multipath", true), false);
    const std::string initiator = connector.string_or("initiator");
    EXPECT_EQ(initiator.substr(0, 4), "iqn.");
    start();
    EXPECT_EQ(host_->connector()->string_or("initiator"), initiator);
}

}  // namespace
}  // namespace kumoi::compute
