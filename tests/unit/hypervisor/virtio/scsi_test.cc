#include "hypervisor/virtio/scsi.h"

#include <cerrno>
#include <cstring>
#include <deque>

#include <gtest/gtest.h>

#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint32_t kResponse = 12 + 96;  // header and sense, as after a reset
constexpr uint16_t kRequests = 2;

// An ISO in memory whose every sector begins with its number; completes when drained.
class IsoFake final : public DiskImage {
public:
    struct Shared {
        uint64_t sectors = 100;
        int fail_with = 0;
        size_t depth = 64;
    };
    explicit IsoFake(Shared& shared) : shared_(shared) {}
    std::string name() const override { return "iso in memory"; }
    uint64_t size() const override { return shared_.sectors * 2048; }
    bool read_only() const override { return true; }
    uint32_t block_size() const override { return 512; }
    bool write_cache() const override { return false; }
    bool can_discard() const override { return false; }
    Result<std::unique_ptr<DiskQueue>> open_queue(EventLoop& /*loop*/,
                                                  DiskClient& client) override {
        return Result<std::unique_ptr<DiskQueue>>(std::make_unique<Reader>(shared_, client));
    }

private:
    class Reader final : public DiskQueue {
    public:
        Reader(Shared& shared, DiskClient& client) : shared_(shared), client_(client) {}
        bool submit(DiskRequest& request) override {
            if (waiting_.size() >= shared_.depth) {
                return false;
            }
            waiting_.push_back(request);
            return true;
        }
        void kick() override {}
        void drain() override {
            while (!waiting_.empty()) {
                const DiskRequest request = waiting_.front();
                waiting_.pop_front();
                auto* to = static_cast<std::byte*>(request.vectors.front().iov_base);
                const auto sector = static_cast<uint32_t>(request.offset / 2048);
                std::memcpy(to, &sector, sizeof sector);
                client_.disk_completed(request.token, shared_.fail_with);
            }
            client_.disk_batch_done();
        }

    private:
        Shared& shared_;
        DiskClient& client_;
        std::deque<DiskRequest> waiting_;
    };
    Shared& shared_;
};

class ScsiTest : public testing::Test {
protected:
    struct Outcome {
        uint8_t status;
        uint8_t response;
        uint32_t residual;
        std::vector<std::byte> sense;
        uint32_t used;
    };
    static std::vector<ScsiUnitConfig> media(IsoFake::Shared& shared) {
        std::vector<ScsiUnitConfig> list(2);
        list[0].id = "cd0";
        list[0].image = std::make_unique<IsoFake>(shared);
        list[1].id = "cd1";
        list[1].target = 1;
        return list;
    }
    void SetUp() override { ASSERT_TRUE(device_.start().ok()); }
    // Sends a command to a target; data_ is where its data goes.
    void send(uint8_t target, std::initializer_list<uint8_t> cdb, uint32_t data_size,
              uint8_t lun = 0) {
        std::vector<uint8_t> request(19 + 32);
        request[0] = 1;
        request[1] = target;
        request[2] = 0x40;
        request[3] = lun;
        std::copy(cdb.begin(), cdb.end(), request.begin() + 19);
        const uint64_t out = queue_.allocate(std::as_bytes(std::span(request)));
        response_ = queue_.allocate(kResponse);
        data_ = queue_.allocate(data_size + 1);
        std::vector<QueueFake::Buffer> buffers = {
            {out, static_cast<uint32_t>(request.size()), false}, {response_, kResponse, true}};
        if (data_size > 0) {
            buffers.push_back({data_, data_size, true});
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
        result.sense.assign(bytes.begin() + 12, bytes.begin() + 12 + sense_size);
        result.used = queue_.used(static_cast<uint16_t>(queue_.used_index() - 1)).length;
        return result;
    }

    IsoFake::Shared iso_;
    PlatformFake platform_;
    VirtioScsi scsi_{"scsi", media(iso_)};
    DeviceFake device_{scsi_, platform_.memory()};
    QueueFake& control_ = device_.add_queue(0, 8);
    QueueFake& events_ = device_.add_queue(1, 8);
    QueueFake& queue_ = device_.add_queue(kRequests, 16);
    uint64_t response_ = 0;
    uint64_t data_ = 0;
};

TEST_F(ScsiTest, InquiryFindsDrivesAtTheFirstTargetsOnly) {
    send(0, {0x12, 0, 0, 0, 36, 0}, 64);
    EXPECT_EQ(outcome().response, 0);
    EXPECT_EQ(outcome().status, 0);
    EXPECT_EQ(outcome().residual, 64u - 36);
    EXPECT_EQ(outcome().used, kResponse + 36);
    EXPECT_EQ(queue_.load<uint8_t>(data_), 0x05);
    send(1, {0x12, 0, 0, 0, 36, 0}, 36);
    EXPECT_EQ(outcome().response, 0);
    send(2, {0x12, 0, 0, 0, 36, 0}, 36);
    EXPECT_EQ(outcome().response, 3);  // bad target
    send(0, {0x12, 0, 0, 0, 36, 0}, 36, 1);
    EXPECT_EQ(outcome().response, 3);  // no LUN 1
}

TEST_F(ScsiTest, ReadsArriveBehindTheResponse) {
    send(0, {0x28, 0, 0, 0, 0, 7, 0, 0, 2, 0}, 4096);
    EXPECT_EQ(queue_.used_index(), 0u);  // asynchronous
    device_.settle();
    EXPECT_EQ(outcome().status, 0);
    EXPECT_EQ(outcome().residual, 0u);
    EXPECT_EQ(outcome().used, kResponse + 4096);
    EXPECT_EQ(queue_.load<uint32_t>(data_), 7u);
    EXPECT_EQ(device_.statistic("read_bytes"), 4096u);
}

TEST_F(ScsiTest, AShortBufferGetsWhatFits) {
    send(0, {0x28, 0, 0, 0, 0, 7, 0, 0, 2, 0}, 2048);
    device_.settle();
    EXPECT_EQ(outcome().used, kResponse + 2048);
    send(0, {0x28, 0, 0, 0, 0, 7, 0, 0, 2, 0}, 0);
    EXPECT_EQ(outcome().used, kResponse);
}

TEST_F(ScsiTest, AFailedReadIsAMediumError) {
    iso_.fail_with = -EIO;
    send(0, {0x28, 0, 0, 0, 0, 7, 0, 0, 1, 0}, 2048);
    device_.settle();
    EXPECT_EQ(outcome().status, 2);
    ASSERT_EQ(outcome().sense.size(), 18u);
    EXPECT_EQ(outcome().sense[2], std::byte{3});
}

TEST_F(ScsiTest, AnEmptyDriveSaysSo) {
    send(1, {0x00}, 0);
    EXPECT_EQ(outcome().status, 2);
    EXPECT_EQ(outcome().sense[12], std::byte{0x3a});
}

TEST_F(ScsiTest, RequestsWaitWhileTheDiskQueueIsFull) {
    iso_.depth = 1;
    for (uint8_t sector = 0; sector < 4; ++sector) {
        send(0, {0x28, 0, 0, 0, 0, sector, 0, 0, 1, 0}, 2048);
    }
    device_.settle();
    EXPECT_EQ(queue_.used_index(), 4u);
    EXPECT_EQ(device_.statistic("reads"), 4u);
}

TEST_F(ScsiTest, MalformedRequestsComeBackEmpty) {
    const uint64_t buffer = queue_.allocate(256);
    queue_.add({{buffer, 10, false}, {buffer, kResponse, true}});      // no whole request
    queue_.add({{buffer, 51, false}, {buffer, kResponse - 1, true}});  // no room to answer
    device_.kick(kRequests);
    EXPECT_EQ(queue_.used_index(), 2u);
    EXPECT_EQ(queue_.used(0).length, 0u);
    EXPECT_EQ(device_.statistic("malformed_chains"), 2u);
    EXPECT_TRUE(device_.broken_reasons.empty());
}

TEST_F(ScsiTest, ControlRequestsAreAnswered) {
    std::vector<uint8_t> reset(24);
    reset[4] = 4;  // logical unit reset
    reset[8] = 1;
    const uint64_t out = control_.allocate(std::as_bytes(std::span(reset)));
    const uint64_t in = control_.allocate(16);
    control_.store<uint8_t>(in, 0xee);
    control_.add({{out, 24, false}, {in, 1, true}});
    device_.kick(0);
    EXPECT_EQ(control_.load<uint8_t>(in), 0);
    reset[4] = 99;  // no such function
    const uint64_t bad = control_.allocate(std::as_bytes(std::span(reset)));
    control_.add({{bad, 24, false}, {in, 1, true}});
    device_.kick(0);
    EXPECT_EQ(control_.load<uint8_t>(in), 11);
    control_.add({{bad, 3, false}});
    device_.kick(0);
    EXPECT_EQ(device_.statistic("malformed_chains"), 1u);
}

TEST_F(ScsiTest, EventBuffersAreKept) {
    const uint64_t buffer = events_.allocate(16);
    events_.add({{buffer, 16, true}});
    device_.kick(1);
    EXPECT_EQ(events_.used_index(), 0u);
}

TEST_F(ScsiTest, ConfigurationTellsItsLimitsAndTakesSmallerSizes) {
    std::vector<uint8_t> bytes(40);
    scsi_.read_config(0, bytes);
    EXPECT_EQ(bytes[0], 1);    // request queues
    EXPECT_EQ(bytes[20], 96);  // sense
    const uint32_t huge = 1u << 30;
    scsi_.write_config(20, std::span(reinterpret_cast<const uint8_t*>(&huge), 4));
    scsi_.read_config(20, std::span(bytes).first(4));
    EXPECT_EQ(bytes[0] | bytes[1] << 8, 256);
    send(0, {0x00}, 0);  // a running device keeps what it began with
    EXPECT_EQ(outcome().status, 0);
}

TEST_F(ScsiTest, StateGoesToAnotherController) {
    send(0, {0x1b, 0, 0, 0, 2, 0}, 0);  // eject
    SectionWriter out("scsi", 1);
    scsi_.save(out);
    VirtioScsi other("scsi", media(iso_));
    SectionReader in = SectionReader::parse(out).value();
    ASSERT_TRUE(other.load(in).ok());
    EXPECT_TRUE(in.finish().ok());
    VirtioScsi smaller("scsi", {});
    SectionReader again = SectionReader::parse(out).value();
    EXPECT_FALSE(smaller.load(again).ok());
}

}  // namespace
}  // namespace kumoi::hypervisor
