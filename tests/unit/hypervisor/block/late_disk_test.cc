// Disks that come and go under their device, and the ownership of all of a machine's together: two
// machines are two sets of LateDisks on the same files.
#include "hypervisor/block/late_disk.h"

#include <fcntl.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/file.h"
#include "hypervisor/block/qcow2/blocking_port.h"
#include "hypervisor/block/qcow2/offline.h"
#include "hypervisor/disk_ownership.h"
#include "hypervisor/virtio/io_thread.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kSize = 1u << 20;

// A device: its queue lives on a thread of its own, as a machine's do.
class Device final : public DiskClient {
public:
    explicit Device(DiskImage& image) {
        thread_.call([&] { queue_ = image.open_queue(thread_.loop(), *this).value(); });
    }
    ~Device() override {
        thread_.call([&] { queue_.reset(); });
    }
    int write(uint8_t value) { return run(DiskOperation::Write, value); }
    int read() {
        const int status = run(DiskOperation::Read, 0);
        return status < 0 ? status : static_cast<int>(bytes_[0]);
    }

private:
    int run(DiskOperation operation, uint8_t value) {
        thread_.call([&] {
            if (operation == DiskOperation::Write) {
                bytes_.assign(bytes_.size(), std::byte{value});
            }
            DiskRequest request;
            request.operation = operation;
            request.size = bytes_.size();
            request.vectors = {{bytes_.data(), bytes_.size()}};
            ASSERT_TRUE(queue_->submit(request));
            queue_->kick();
            queue_->drain();
        });
        return result_;
    }
    void disk_completed(uint32_t, int result) override { result_ = result; }
    void disk_batch_done() override {}

    IoThread thread_{"disk"};
    std::unique_ptr<DiskQueue> queue_;
    std::vector<std::byte> bytes_ = std::vector<std::byte>(4096);
    int result_ = 1;
};

// In the sandbox: nothing more can be opened once the launcher has gone.
class LimitedFiles final : public FileSource {
public:
    Result<UniqueFd> open(const std::string& path, int flags, unsigned mode) override {
        if (closed) {
            return Error::not_found("the sandbox was given no {}", path);
        }
        ++opened;
        return direct_files().open(path, flags, mode);
    }
    Result<UniqueFd> open_tap(const std::string&, bool) override { return no(); }
    Result<UniqueFd> listen(const std::string&, unsigned) override { return no(); }
    Result<UniqueFd> listen_tcp(const std::string&, uint16_t) override { return no(); }
    Result<UniqueFd> connect(const std::string&) override { return no(); }
    Result<Connector> connector(const std::string&) override { return no(); }
    Result<PortConnector> port_connector(const std::string&) override { return no(); }
    void remove_socket(const std::string&) override {}
    bool closed = false;
    int opened = 0;

private:
    static Error no() { return Error::unsupported("not in this test"); }
};

class LateDiskTest : public ::testing::TestWithParam<DiskFormat> {
protected:
    std::string path(const std::string& name) { return directory.path() + "/" + name; }
    DiskOptions make(const std::string& name, const std::string& owner = "", uint64_t epoch = 1) {
        DiskOptions options{.path = path(name), .format = GetParam()};
        if (::access(options.path.c_str(), F_OK) != 0) {
            if (GetParam() == DiskFormat::Raw) {
                const UniqueFd fd(::open(options.path.c_str(), O_CREAT | O_RDWR, 0600));
                EXPECT_EQ(::ftruncate(fd.get(), kSize), 0);
            } else {
                EXPECT_TRUE(
                    qcow2::create_image_file(direct_files(), options.path, {.size = kSize}).ok());
            }
        }
        if (!owner.empty()) {
            options.lock = {.lease = options.path + ".lease", .epoch = epoch, .owner = owner};
        }
        return options;
    }
    LeaseRecord lease(const std::string& name) {
        return DiskLease::read(direct_files(), path(name) + ".lease").value();
    }
    TemporaryDirectory directory = TemporaryDirectory::create("late_disk").value();
};

TEST_P(LateDiskTest, IsNoDiskBeforeItIsHeldAndTaken) {
    auto disk =
        LateDisk::closed(direct_files(), {.options = make("d"), .queues = 4, .backend = {}});
    EXPECT_EQ(disk->size(), 512u);
    EXPECT_EQ(disk->queue_count_max(), 4u);
    EXPECT_FALSE(disk->read_only());
    EXPECT_TRUE(disk->can_discard());
    EXPECT_EQ(disk->live(), nullptr);
    Device device(*disk);
    EXPECT_EQ(device.read(), -EIO);
    EXPECT_FALSE(disk->resize(2 * kSize).ok());
    ASSERT_TRUE(disk->hold().ok());
    EXPECT_EQ(disk->size(), kSize);
    EXPECT_EQ(device.write(1), -EIO) << "held is not taken";
    ASSERT_TRUE(disk->take(1, {}).ok());
    EXPECT_EQ(device.write(7), 0);
    EXPECT_EQ(device.read(), 7);
    EXPECT_NE(disk->live(), nullptr);
    int resized = 0;
    disk->on_resize([&] { ++resized; });
    EXPECT_TRUE(disk->resize(2 * kSize).ok());
    EXPECT_EQ(disk->size(), 2 * kSize);
    EXPECT_EQ(resized, 1);
}

TEST_P(LateDiskTest, WhatOneGivesFreeTheOtherHasAndBack) {
    auto here = LateDisk::open(direct_files(), {.options = make("d"), .backend = {}}).value();
    auto there = LateDisk::closed(direct_files(), {.options = make("d"), .backend = {}});
    Device source(*here);
    Device destination(*there);
    for (uint8_t round = 1; round <= 5; ++round) {
        EXPECT_EQ(source.write(round), 0);
        EXPECT_EQ(there->hold().error().code, ErrorCode::Conflict);
        ASSERT_TRUE(here->drop().ok());
        EXPECT_EQ(source.read(), -EIO);
        ASSERT_TRUE(there->hold().ok());
        EXPECT_EQ(here->hold().error().code, ErrorCode::Conflict);
        ASSERT_TRUE(there->take(1, {}).ok());
        EXPECT_EQ(destination.read(), round);
        EXPECT_EQ(destination.write(static_cast<uint8_t>(100 + round)), 0);
        ASSERT_TRUE(there->drop().ok());
        ASSERT_TRUE(here->hold().ok());
        ASSERT_TRUE(here->take(1, {}).ok());
        EXPECT_EQ(source.read(), 100 + round) << "read anew, not remembered";
    }
}

// And the lock goes although what was kept is the same open file.
TEST_P(LateDiskTest, InTheSandboxItIsOpenedAgainFromWhatWasKept) {
    LimitedFiles files;
    auto here = LateDisk::open(files, {.options = make("d", "a"), .backend = {}}).value();
    files.closed = true;
    auto there = LateDisk::closed(direct_files(), {.options = make("d", "b"), .backend = {}});
    auto source = std::make_unique<Device>(*here);
    Device destination(*there);
    EXPECT_EQ(source->write(1), 0);
    ASSERT_TRUE(here->drop().ok());
    ASSERT_TRUE(there->hold().ok());
    ASSERT_TRUE(there->take(2, {1}).ok());
    EXPECT_EQ(destination.write(2), 0);
    EXPECT_EQ(here->hold().error().code, ErrorCode::Conflict);
    ASSERT_TRUE(there->drop().ok());
    ASSERT_TRUE(here->hold().ok());
    EXPECT_EQ(there->hold().error().code, ErrorCode::Conflict);
    ASSERT_TRUE(here->take(3, {2}).ok());
    EXPECT_EQ(source->read(), 2);
    source.reset();  // a queue goes before its disk
    here.reset();
    EXPECT_TRUE(there->hold().ok()) << "what goes takes its locks with it";
}

TEST_P(LateDiskTest, ADiskThatIsNotWhatTheGuestHasIsRefused) {
    DiskOptions options = make("d");
    auto disk =
        LateDisk::closed(direct_files(), {.options = options, .queues = 300, .backend = {}});
    EXPECT_TRUE(disk->hold().ok()) << "no device has more than 16";
    options.path = path("absent");
    auto absent = LateDisk::closed(direct_files(), {.options = options, .backend = {}});
    EXPECT_EQ(absent->hold().error().code, ErrorCode::NotFound);
    EXPECT_FALSE(absent->held());
}

// --- All of a machine's disks ---

class OwnershipTest : public LateDiskTest {
protected:
    struct Machine {
        std::vector<std::unique_ptr<LateDisk>> disks;
        DiskOwnership ownership{[this] {
            DiskOwnership::Disks all;
            for (size_t i = 0; i < disks.size(); ++i) {
                all.emplace_back("d" + std::to_string(i), disks[i].get());
            }
            return all;
        }};
    };
    static constexpr uint64_t kEpoch = 5;
    void make_machines(const std::string& source_owner = "a",
                       const std::string& destination_owner = "b") {
        for (const char* name : {"one", "two"}) {
            here.disks.push_back(
                LateDisk::open(direct_files(),
                               {.options = make(name, source_owner, kEpoch), .backend = {}})
                    .value());
            there.disks.push_back(LateDisk::closed(
                direct_files(), {.options = make(name, destination_owner, kEpoch), .backend = {}}));
        }
    }
    Machine here;
    Machine there;
};

TEST_P(OwnershipTest, GoesOverWithItsEpochs) {
    make_machines();
    EXPECT_EQ(there.ownership.hold(kEpoch), DiskTake::Busy);
    ASSERT_TRUE(there.ownership.error().has_value());
    EXPECT_FALSE(there.disks[0]->held());
    EXPECT_TRUE(here.ownership.may_drop(kEpoch).ok());
    EXPECT_FALSE(here.ownership.may_drop(kEpoch + 1).ok()) << "it could never be had again";
    ASSERT_TRUE(here.ownership.drop().ok());
    EXPECT_EQ(there.ownership.hold(kEpoch - 1), DiskTake::Superseded);
    EXPECT_FALSE(there.disks[0]->held());
    EXPECT_EQ(there.ownership.hold(kEpoch), DiskTake::Taken);
    EXPECT_EQ(there.ownership.hold(kEpoch), DiskTake::Taken) << "still";
    EXPECT_EQ(lease("one").epoch, kEpoch) << "only held";
    EXPECT_EQ(here.ownership.take(kEpoch, kEpoch + 1, kEpoch + 2), DiskTake::Busy);
    EXPECT_EQ(there.ownership.take(kEpoch, kEpoch, kEpoch + 1), DiskTake::Taken);
    for (const char* name : {"one", "two"}) {
        EXPECT_EQ(lease(name).epoch, kEpoch + 1);
        EXPECT_EQ(lease(name).owner, "b");
    }
    EXPECT_EQ(there.ownership.take(kEpoch, kEpoch, kEpoch + 1), DiskTake::Taken) << "again";
    Device device(*there.disks[1]);
    EXPECT_EQ(device.write(9), 0);
}

// The source takes the guest back before its commit: whatever the other side has begun to write.
TEST_P(OwnershipTest, ComesBackUnderAHigherEpochThanTheOtherSides) {
    make_machines();
    ASSERT_TRUE(here.ownership.drop().ok());
    ASSERT_EQ(there.ownership.hold(kEpoch), DiskTake::Taken);
    ASSERT_TRUE(there.disks[0]->take(kEpoch + 1, {kEpoch}).ok());  // died half way
    there.disks.clear();
    EXPECT_EQ(here.ownership.take(kEpoch, kEpoch, kEpoch + 2), DiskTake::Superseded)
        << "the other side's epoch was not accepted";
    EXPECT_EQ(here.ownership.take(kEpoch, kEpoch + 1, kEpoch + 2), DiskTake::Taken);
    EXPECT_EQ(lease("one").epoch, kEpoch + 2);
    EXPECT_EQ(lease("two").epoch, kEpoch + 2);
    Device device(*here.disks[0]);
    EXPECT_EQ(device.write(3), 0);
}

// Half of them written, and then again: what shows the new epoch is ours already.
TEST_P(OwnershipTest, ATakeThatBrokeOffCanBeRepeated) {
    make_machines();
    ASSERT_TRUE(here.ownership.drop().ok());
    ASSERT_EQ(there.ownership.hold(kEpoch), DiskTake::Taken);
    ASSERT_TRUE(there.disks[0]->take(kEpoch + 1, {kEpoch}).ok());
    ASSERT_TRUE(there.ownership.drop().ok());
    EXPECT_EQ(there.ownership.take(kEpoch, kEpoch, kEpoch + 1), DiskTake::Taken);
    EXPECT_EQ(lease("two").epoch, kEpoch + 1);
}

TEST_P(OwnershipTest, SomebodyWithAHigherEpochWins) {
    make_machines();
    ASSERT_TRUE(here.ownership.drop().ok());
    ASSERT_TRUE(DiskLease::acquire(direct_files(), path("two") + ".lease", 50, "c").ok());
    EXPECT_EQ(there.ownership.hold(kEpoch), DiskTake::Superseded);
    EXPECT_EQ(here.ownership.take(kEpoch, kEpoch + 1, kEpoch + 2), DiskTake::Superseded);
    EXPECT_FALSE(here.disks[0]->in_use());
    EXPECT_EQ(lease("one").epoch, kEpoch) << "none is written where not all can be";
}

TEST_P(OwnershipTest, AFileThatIsNotThereFailsAll) {
    make_machines();
    ASSERT_TRUE(here.ownership.drop().ok());
    ASSERT_EQ(::rename(path("two").c_str(), path("gone").c_str()), 0);
    EXPECT_EQ(there.ownership.hold(kEpoch), DiskTake::Failed);
    EXPECT_FALSE(there.disks[0]->held());
    ASSERT_EQ(::rename(path("gone").c_str(), path("two").c_str()), 0);
    EXPECT_EQ(there.ownership.hold(kEpoch), DiskTake::Taken);
}

TEST_P(OwnershipTest, WithoutLeasesTheLocksDecide) {
    make_machines("", "");
    EXPECT_EQ(there.ownership.take(1, 1, 2), DiskTake::Busy);
    ASSERT_TRUE(here.ownership.drop().ok());
    EXPECT_EQ(there.ownership.take(1, 1, 2), DiskTake::Taken);
    EXPECT_EQ(here.ownership.hold(1), DiskTake::Busy);
}

TEST_P(OwnershipTest, WhatMovesWithTheGuestIsItsHostsOwn) {
    make_machines("", "");
    there.disks.push_back(
        LateDisk::closed(direct_files(), {.options = make("copy"), .backend = {}}));
    EXPECT_EQ(there.ownership.set_own({"d9"}).error().code, ErrorCode::NotFound);
    ASSERT_TRUE(there.ownership.set_own({"d2"}).ok());
    Device device(*there.disks[2]);
    EXPECT_EQ(device.write(1), 0) << "open from now on";
    EXPECT_EQ(there.ownership.hold(kEpoch), DiskTake::Busy);
    ASSERT_TRUE(here.ownership.drop().ok());
    EXPECT_EQ(there.ownership.take(kEpoch, kEpoch, kEpoch + 1), DiskTake::Taken);
    ASSERT_TRUE(there.ownership.drop().ok());
    EXPECT_TRUE(there.disks[2]->in_use());
    EXPECT_FALSE(there.disks[1]->in_use());
    there.disks[1]->set_moved();
    EXPECT_EQ(there.ownership.may_drop(kEpoch).error().code, ErrorCode::Unsupported);
}

// A back end in another process: one queue, and memory of its own.
class BackendImage final : public DiskImage {
public:
    struct Counts {
        int writes = 0;
        int flushes = 0;
        int flush_result = 0;
        int queues = 0;
    };
    explicit BackendImage(Counts& counts) : counts_(counts) {}
    std::string name() const override { return "backend"; }
    uint64_t size() const override { return kSize; }
    bool read_only() const override { return false; }
    uint32_t block_size() const override { return 512; }
    bool write_cache() const override { return true; }
    bool can_discard() const override { return true; }
    Result<std::unique_ptr<DiskQueue>> open_queue(EventLoop&, DiskClient& client) override {
        if (counts_.queues == 1) {
            return Error::exhausted("all queues are open");
        }
        ++counts_.queues;
        return std::unique_ptr<DiskQueue>(std::make_unique<BackendQueue>(counts_, client));
    }

private:
    class BackendQueue final : public DiskQueue {
    public:
        BackendQueue(Counts& counts, DiskClient& client) : counts_(counts), client_(client) {}
        ~BackendQueue() override { --counts_.queues; }
        bool submit(DiskRequest& request) override {
            taken_.push_back(request);
            return true;
        }
        void kick() override {}
        void drain() override {
            for (const DiskRequest& request : std::exchange(taken_, {})) {
                const bool flush = request.operation == DiskOperation::Flush;
                ++(flush ? counts_.flushes : counts_.writes);
                client_.disk_completed(request.token, flush ? counts_.flush_result : 0);
            }
        }

    private:
        Counts& counts_;
        DiskClient& client_;
        std::vector<DiskRequest> taken_;
    };
    Counts& counts_;
};

TEST(LateBackend, IsFlushedByItsOneQueueBeforeTheGuestIsGivenAway) {
    BackendImage::Counts counts;
    LateDisk::Spec spec;
    spec.backend = [&]() -> Result<std::unique_ptr<DiskImage>> {
        return std::unique_ptr<DiskImage>(std::make_unique<BackendImage>(counts));
    };
    auto disk = LateDisk::open(direct_files(), std::move(spec)).value();
    EXPECT_TRUE(disk->sync().ok()) << "no device has written";
    EXPECT_EQ(counts.flushes, 0);
    Device device(*disk);
    EXPECT_EQ(device.write(1), 0);
    EXPECT_TRUE(disk->sync().ok());
    EXPECT_EQ(counts.flushes, 1);
    EXPECT_EQ(device.write(2), 0) << "the device has its queue again";
    counts.flush_result = -EIO;
    EXPECT_FALSE(disk->sync().ok());
    EXPECT_EQ(device.write(3), 0);
    EXPECT_EQ(counts.writes, 3);
    EXPECT_TRUE(disk->drop().ok());
    EXPECT_EQ(counts.queues, 0);
    ASSERT_TRUE(disk->hold().ok());
    ASSERT_TRUE(disk->take(1, {}).ok());
    EXPECT_EQ(device.write(4), 0);
}

std::string name_of(const ::testing::TestParamInfo<DiskFormat>& info) {
    return info.param == DiskFormat::Raw ? "Raw" : "Qcow2";
}
INSTANTIATE_TEST_SUITE_P(Formats, LateDiskTest,
                         ::testing::Values(DiskFormat::Raw, DiskFormat::Qcow2), name_of);
INSTANTIATE_TEST_SUITE_P(Formats, OwnershipTest,
                         ::testing::Values(DiskFormat::Raw, DiskFormat::Qcow2), name_of);

}  // namespace
}  // namespace kumoi::hypervisor
