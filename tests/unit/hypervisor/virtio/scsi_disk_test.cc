// Disks behind a VirtioScsi: the commands are tests/unit/hypervisor/scsi/disk_test.cc's.
#include <cerrno>
#include <cstring>

#include <gtest/gtest.h>

#include "hypervisor/virtio/device_runner.h"
#include "hypervisor/virtio/scsi.h"
#include "tests/support/memory_disk.h"
#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint32_t kResponse = 12 + 96;
constexpr uint16_t kRequests = 2;
constexpr uint8_t kTarget = 3;

class ScsiDisksTest : public testing::Test {
protected:
    struct Outcome {
        uint8_t status;
        uint8_t response;
        uint32_t residual;
        uint16_t code;
    };
    static ScsiUnitConfig unit(MemoryDisk::Shared& shared, unsigned target = kTarget,
                               std::string id = "root") {
        ScsiUnitConfig config;
        config.kind = ScsiUnitConfig::Kind::Disk;
        config.target = target;
        config.id = std::move(id);
        config.image = std::make_unique<MemoryDisk>(shared);
        return config;
    }
    static std::vector<ScsiUnitConfig> units(MemoryDisk::Shared& shared) {
        std::vector<ScsiUnitConfig> list;
        list.push_back(unit(shared));
        return list;
    }
    void SetUp() override {
        ASSERT_TRUE(device_.start().ok());
        send({0x00});
        EXPECT_EQ(outcome().code, 0x2900);
    }
    // A command with data to the device, and room for data from it.
    void send(std::initializer_list<uint8_t> cdb, std::vector<uint8_t> out = {},
              uint32_t in_size = 0, uint8_t target = kTarget) {
        std::vector<uint8_t> request(19 + 32);
        request[0] = 1;
        request[1] = target;
        request[2] = 0x40;
        std::copy(cdb.begin(), cdb.end(), request.begin() + 19);
        const uint64_t header = queue_.allocate(std::as_bytes(std::span(request)));
        response_ = queue_.allocate(kResponse);
        data_ = queue_.allocate(in_size + 1);
        std::vector<QueueFake::Buffer> buffers = {
            {header, static_cast<uint32_t>(request.size()), false}};
        if (!out.empty()) {
            buffers.push_back({queue_.allocate(std::as_bytes(std::span(out))),
                               static_cast<uint32_t>(out.size()), false});
        }
        buffers.push_back({response_, kResponse, true});
        if (in_size > 0) {
            buffers.push_back({data_, in_size, true});
        }
        queue_.add(buffers);
        device_.kick(kRequests);
    }
    Outcome outcome() {
        const auto bytes = queue_.get(response_, kResponse);
        Outcome result{};
        uint32_t sense_size = 0;
        std::memcpy(&sense_size, bytes.data(), 4);
        std::memcpy(&result.residual, &bytes[4], 4);
        result.status = static_cast<uint8_t>(bytes[10]);
        result.response = static_cast<uint8_t>(bytes[11]);
        if (sense_size >= 14) {
            result.code = static_cast<uint16_t>(static_cast<uint8_t>(bytes[24]) << 8 |
                                                static_cast<uint8_t>(bytes[25]));
        }
        return result;
    }
    uint32_t event(uint64_t buffer, size_t at) { return events_.load<uint32_t>(buffer + at); }
    uint64_t statistic(const std::string& name) {
        for (const Statistic& one : scsi_.disk("root")->statistics()) {
            if (one.name == name) {
                return one.value;
            }
        }
        return ~uint64_t{0};
    }

    MemoryDisk::Shared shared_{1u << 20};
    MemoryDisk::Shared other_{1u << 20};
    PlatformFake platform_;
    VirtioScsi scsi_{"scsi", units(shared_)};
    DeviceFake device_{scsi_, platform_.memory()};
    QueueFake& control_ = device_.add_queue(0, 8);
    QueueFake& events_ = device_.add_queue(1, 8);
    QueueFake& queue_ = device_.add_queue(kRequests, 16);
    uint64_t response_ = 0;
    uint64_t data_ = 0;
};

TEST_F(ScsiDisksTest, WritesAndReadsBack) {
    send({0x2a, 0, 0, 0, 0, 5, 0, 0, 2}, std::vector<uint8_t>(1024, 0x5a));
    EXPECT_EQ(statistic("writes"), 0u);  // asynchronous
    device_.settle();
    EXPECT_EQ(outcome().status, 0);
    EXPECT_EQ(outcome().residual, 0u);
    EXPECT_EQ(shared_.bytes[5 * 512], std::byte{0x5a});
    EXPECT_EQ(shared_.bytes[7 * 512], std::byte{0});
    send({0x28, 0, 0, 0, 0, 5, 0, 0, 2}, {}, 1024);
    device_.settle();
    EXPECT_EQ(outcome().status, 0);
    EXPECT_EQ(queue_.load<uint8_t>(data_ + 1023), 0x5a);
    EXPECT_EQ(statistic("write_bytes"), 1024u);
    EXPECT_EQ(statistic("read_bytes"), 1024u);
}

TEST_F(ScsiDisksTest, AWriteWithoutItsDataIsNotBegun) {
    send({0x2a, 0, 0, 0, 0, 5, 0, 0, 2}, std::vector<uint8_t>(512, 0x5a));
    device_.settle();
    EXPECT_EQ(outcome().response, 1);  // overrun
    EXPECT_TRUE(shared_.done.empty());
    send({0x42, 0, 0, 0, 0, 0, 0, 0, 24}, std::vector<uint8_t>(8));
    EXPECT_EQ(outcome().response, 1);
}

TEST_F(ScsiDisksTest, WithTheCacheOffAWriteIsAnsweredAfterAFlush) {
    std::vector<uint8_t> list(4 + 20);
    list[4] = 8;
    list[5] = 0x12;
    send({0x15, 0x10, 0, 0, 24}, list);
    EXPECT_EQ(outcome().status, 0);
    send({0x2a, 0, 0, 0, 0, 5, 0, 0, 1}, std::vector<uint8_t>(512));
    device_.settle();
    ASSERT_EQ(shared_.done.size(), 2u);
    EXPECT_EQ(shared_.done[1].operation, DiskOperation::Flush);
    EXPECT_EQ(outcome().status, 0);
}

TEST_F(ScsiDisksTest, ForceUnitAccessFlushesWithTheCacheOn) {
    send({0x2a, 8, 0, 0, 0, 5, 0, 0, 1}, std::vector<uint8_t>(512));
    device_.settle();
    ASSERT_EQ(shared_.done.size(), 2u);
    EXPECT_EQ(shared_.done[1].operation, DiskOperation::Flush);
}

TEST_F(ScsiDisksTest, DiscardsZeroesAndPatternsReachTheImage) {
    std::vector<uint8_t> list = {0, 22, 0, 16, 0, 0, 0, 0,  0, 0, 0, 0,
                                 0, 0,  0, 8,  0, 0, 0, 16, 0, 0, 0, 0};
    send({0x42, 0, 0, 0, 0, 0, 0, 0, 24}, list);
    send({0x93, 9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4});
    device_.settle();
    send({0x41, 0, 0, 0, 0, 32, 0, 1, 0}, std::vector<uint8_t>(512, 0x77));  // 128 KiB
    device_.settle();
    EXPECT_EQ(outcome().status, 0);
    ASSERT_EQ(shared_.done.size(), 3u);
    EXPECT_EQ(shared_.done[0].operation, DiskOperation::Discard);
    EXPECT_EQ(shared_.done[1].operation, DiskOperation::WriteZeroes);
    EXPECT_EQ(shared_.bytes[32 * 512], std::byte{0x77});
    EXPECT_EQ(shared_.bytes[32 * 512 + (128 << 10) - 1], std::byte{0x77});
    EXPECT_EQ(shared_.bytes[32 * 512 + (128 << 10)], std::byte{0});
}

TEST_F(ScsiDisksTest, FailuresAreSense) {
    shared_.fail_with = -ENOSPC;
    send({0x2a, 0, 0, 0, 0, 5, 0, 0, 1}, std::vector<uint8_t>(512));
    device_.settle();
    EXPECT_EQ(outcome().code, 0x2707);
    shared_.fail_with = -EIO;
    send({0x28, 0, 0, 0, 0, 5, 0, 0, 1}, {}, 512);
    device_.settle();
    EXPECT_EQ(outcome().code, 0x1100);
    EXPECT_EQ(statistic("errors"), 3u);  // and the unit attention
}

TEST_F(ScsiDisksTest, AFullDiskQueueHoldsBackOnlyItsOwn) {
    shared_.depth = 1;
    for (uint8_t block = 0; block < 4; ++block) {
        send({0x28, 0, 0, 0, 0, block, 0, 0, 1}, {}, 512);
    }
    send({0x12, 0, 0, 0, 36}, {}, 36);
    EXPECT_EQ(outcome().status, 0);  // answered while the reads wait
    EXPECT_EQ(queue_.used_index(), 2u);
    device_.settle();
    EXPECT_EQ(statistic("reads"), 4u);
}

TEST_F(ScsiDisksTest, LimitsHoldRequestsBack) {
    DiskLimits limits;
    limits.read_iops.average = 1;
    ASSERT_TRUE(scsi_.disk("root")->set_limits(limits, device_.clock().monotonic_ns()).ok());
    EXPECT_EQ(scsi_.disk("root")->limits(), limits);
    for (uint8_t block = 0; block < 3; ++block) {
        send({0x28, 0, 0, 0, 0, block, 0, 0, 1}, {}, 512);
    }
    EXPECT_GE(statistic("throttled"), 2u);
    device_.settle();  // a pause waits for nobody
    EXPECT_EQ(statistic("reads"), 3u);
}

TEST_F(ScsiDisksTest, TaskManagementEndsWhatIsUnderWay) {
    send({0x2a, 0, 0, 0, 0, 5, 0, 0, 1}, std::vector<uint8_t>(512, 1));
    EXPECT_TRUE(shared_.done.empty());
    std::vector<uint8_t> reset(24);
    reset[4] = 5;  // logical unit reset
    reset[8] = 1;
    reset[9] = kTarget;
    const uint64_t out = control_.allocate(std::as_bytes(std::span(reset)));
    const uint64_t in = control_.allocate(16);
    control_.store<uint8_t>(in, 0xee);
    control_.add({{out, 24, false}, {in, 1, true}});
    device_.kick(0);
    EXPECT_EQ(control_.load<uint8_t>(in), 0);
    EXPECT_EQ(shared_.done.size(), 1u);
    EXPECT_EQ(queue_.used_index(), 2u);
    send({0x00});
    EXPECT_EQ(outcome().code, 0x2903);
}

TEST_F(ScsiDisksTest, ALargerDiskIsToldByAnEvent) {
    const uint64_t buffer = events_.allocate(16);
    events_.add({{buffer, 16, true}});
    device_.kick(1);
    EXPECT_EQ(events_.used_index(), 0u);
    ASSERT_TRUE(scsi_.disk("root")->image().resize(2u << 20).ok());
    device_.run_loop();
    ASSERT_EQ(events_.used_index(), 1u);
    EXPECT_EQ(event(buffer, 0), 3u);  // parameter change
    EXPECT_EQ(event(buffer, 12), 0x092au);
    send({0x00});
    EXPECT_EQ(outcome().code, 0x2a09);
    send({0x25}, {}, 8);
    EXPECT_EQ(queue_.load<uint8_t>(data_ + 2), 0x0f);
    EXPECT_EQ(queue_.load<uint8_t>(data_ + 3), 0xff);
}

TEST_F(ScsiDisksTest, DisksComeAndGoBetweenStarts) {
    device_.stop();
    ASSERT_TRUE(scsi_.attach(unit(other_, 7, "data")).ok());
    EXPECT_NE(scsi_.disk("data"), nullptr);
    ASSERT_TRUE(scsi_.detach("root").ok());
    EXPECT_EQ(scsi_.disk("root"), nullptr);
    EXPECT_FALSE(scsi_.detach("root").ok());
    EXPECT_TRUE(scsi_.has_target(7));
    EXPECT_FALSE(scsi_.has_target(kTarget));
}

TEST_F(ScsiDisksTest, StateGoesToAnotherController) {
    std::vector<uint8_t> list(4 + 20);
    list[4] = 8;
    list[5] = 0x12;
    send({0x15, 0x10, 0, 0, 24}, list);  // write cache off
    ASSERT_TRUE(scsi_.disk("root")->image().resize(2u << 20).ok());
    device_.run_loop();  // nobody has given a buffer for the event
    SectionWriter out("scsi", 1);
    scsi_.save(out);

    VirtioScsi other("scsi", units(shared_));
    SectionReader in = SectionReader::parse(out).value();
    ASSERT_TRUE(other.load(in).ok());
    EXPECT_TRUE(in.finish().ok());
    DeviceFake there(other, platform_.memory(), 0x800000);
    QueueFake& events = there.add_queue(1, 8);
    there.add_queue(kRequests, 16);
    ASSERT_TRUE(there.start().ok());
    const uint64_t buffer = events.allocate(16);
    events.add({{buffer, 16, true}});
    there.kick(1);
    EXPECT_EQ(events.load<uint32_t>(buffer), 0x8000'0000u);  // something was missed
    SectionWriter again("scsi", 1);
    other.save(again);
    there.stop();

    std::vector<ScsiUnitConfig> elsewhere;
    elsewhere.push_back(unit(shared_, 9));
    VirtioScsi wrong("scsi", std::move(elsewhere));
    SectionReader third = SectionReader::parse(out).value();
    EXPECT_FALSE(wrong.load(third).ok());
}

// With a thread of its own, as in a machine.
class RunningScsiTest : public testing::Test, private RunnerEvents {
protected:
    void SetUp() override {
        runner_ = DeviceRunner::create(scsi_, platform_.memory(), *this).value();
        const std::vector<QueueConfig> queues = {control_.config(), events_.config(),
                                                 requests_.config()};
        ASSERT_TRUE(runner_
                        ->start(queues, virtio::kFeatureVersion1 | VirtioScsi::kFeatureHotplug |
                                            VirtioScsi::kFeatureChange)
                        .ok());
        buffer_ = events_.allocate(32);
        events_.add({{buffer_, 16, true}});
        events_.add({{buffer_ + 16, 16, true}});
    }
    static ScsiUnitConfig data(MemoryDisk::Shared& shared) {
        ScsiUnitConfig config;
        config.kind = ScsiUnitConfig::Kind::Disk;
        config.target = 5;
        config.id = "data";
        config.limits.read_iops.average = 100;
        config.image = std::make_unique<MemoryDisk>(shared);
        return config;
    }
    void queue_interrupt(uint16_t /*queue_index*/) override { ++interrupts_; }
    void config_interrupt() override {}
    void device_broken(std::string_view reason) override { ADD_FAILURE() << reason; }

    MemoryDisk::Shared shared_{1u << 20};
    PlatformFake platform_;
    VirtioScsi scsi_{"scsi", {}};
    QueueFake control_{platform_.memory(), 0, 0x100000, 8};
    QueueFake events_{platform_.memory(), 1, 0x200000, 8};
    QueueFake requests_{platform_.memory(), 2, 0x300000, 16};
    std::atomic<int> interrupts_ = 0;
    std::unique_ptr<DeviceRunner> runner_;
    uint64_t buffer_ = 0;
};

TEST_F(RunningScsiTest, ADiskThatComesAndGoesIsToldByEvents) {
    ASSERT_TRUE(scsi_.attach(data(shared_)).ok());
    ASSERT_EQ(events_.used_index(), 1u);
    EXPECT_EQ(events_.load<uint32_t>(buffer_), 1u);  // transport reset
    EXPECT_EQ(events_.load<uint32_t>(buffer_ + 4), 0x0040'0501u);
    EXPECT_EQ(events_.load<uint32_t>(buffer_ + 12), 1u);  // rescan
    EXPECT_GE(interrupts_, 1);
    EXPECT_EQ(scsi_.disk("data")->limits().read_iops.average, 100u);
    ASSERT_TRUE(scsi_.detach("data").ok());
    ASSERT_EQ(events_.used_index(), 2u);
    EXPECT_EQ(events_.load<uint32_t>(buffer_ + 16 + 12), 2u);  // removed
    EXPECT_EQ(shared_.resized, nullptr);
    EXPECT_EQ(scsi_.disk("data"), nullptr);
}

TEST_F(RunningScsiTest, APausedGuestHearsOfADiskWhenItGoesOn) {
    runner_->pause();
    ASSERT_TRUE(scsi_.attach(data(shared_)).ok());
    EXPECT_EQ(events_.used_index(), 0u);  // its memory stands still
    runner_->resume();
    ASSERT_TRUE(scsi_.detach("data").ok());
    EXPECT_EQ(events_.used_index(), 2u);
}

}  // namespace
}  // namespace kumoi::hypervisor
