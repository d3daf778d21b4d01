#include "hypervisor/virtio/net.h"

#include <gtest/gtest.h>

#include "tests/support/net_backend_fake.h"
#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kCsum = 1u << 0;
constexpr uint64_t kGuestTso4 = 1u << 7;
constexpr uint64_t kHostTso4 = 1u << 11;
constexpr uint64_t kMergeable = 1u << 15;
constexpr uint64_t kPlain = virtio::kFeatureVersion1;

class NetTest : public testing::Test {
protected:
    void start(uint64_t features) { ASSERT_TRUE(device_.start(features).ok()); }
    struct Header {
        uint8_t flags = 0;
        uint8_t gso_type = 0;
        uint16_t header_length = 0;
        uint16_t gso_size = 0;
        uint16_t checksum_start = 0;
        uint16_t checksum_offset = 0;
        uint16_t buffer_count = 0;
    };
    size_t send(const Header& header, uint32_t payload) {
        const uint64_t gpa = transmit_.allocate(12 + payload);
        transmit_.store(gpa, header);
        transmit_.add({{gpa, 12, false}, {gpa + 12, payload, false}});
        device_.kick(1);
        return backend_->sent.size();
    }
    uint64_t add_receive(uint32_t size) {
        const uint64_t gpa = receive_.allocate(size);
        receive_.add({{gpa, size, true}});
        return gpa;
    }

    PlatformFake platform_;
    BackendInMemory* backend_ = new BackendInMemory;
    VirtioNet net_{{.name = "net0", .mac = {2, 0, 0, 1, 2, 3}, .mtu = 1500, .queue_size = 64},
                   backends_of({backend_})};
    DeviceFake device_{net_, platform_.memory()};
    QueueFake& receive_ = device_.add_queue(0, 64);
    QueueFake& transmit_ = device_.add_queue(1, 64);
};

TEST_F(NetTest, ShortLongAndWrongWayFramesAreMalformed) {
    start(kPlain);
    transmit_.add({{transmit_.allocate(8), 8, false}});
    transmit_.add({{transmit_.allocate(25), 25, false}});
    transmit_.add({{0x800000, 12 + 65551, false}});
    transmit_.add({{transmit_.allocate(64), 64, true}});
    device_.kick(1);
    EXPECT_EQ(transmit_.used_index(), 4u);
    EXPECT_EQ(device_.statistic("malformed_chains"), 4u);
    EXPECT_TRUE(backend_->sent.empty());
}

TEST_F(NetTest, ChecksumOffsetsMustLieInsideTheFrame) {
    start(~uint64_t{0} & ~virtio::kFeatureEventIndex);
    EXPECT_EQ(send({.flags = 1, .checksum_start = 34, .checksum_offset = 65}, 100), 0u);
    EXPECT_EQ(send({.flags = 1, .checksum_start = 0xffff, .checksum_offset = 0xffff}, 100), 0u);
    EXPECT_EQ(send({.flags = 1, .checksum_start = 34, .checksum_offset = 64}, 100), 1u);
}

TEST_F(NetTest, OffloadsThatWereNotNegotiatedAreRefused) {
    start(kPlain);
    EXPECT_EQ(send({.flags = 1, .checksum_start = 34, .checksum_offset = 16}, 100), 0u);
    EXPECT_EQ(send({.gso_type = 1, .header_length = 54, .gso_size = 1448}, 3000), 0u);
    EXPECT_EQ(device_.statistic("malformed_chains"), 2u);
}

TEST_F(NetTest, SegmentationNeedsASizeAChecksumAndAKnownType) {
    start(kPlain | kCsum | kHostTso4);
    const Header good{.flags = 1,
                      .gso_type = 1,
                      .header_length = 54,
                      .gso_size = 1448,
                      .checksum_start = 34,
                      .checksum_offset = 16};
    Header wrong = good;
    wrong.gso_size = 0;
    EXPECT_EQ(send(wrong, 3000), 0u);
    wrong = good;
    wrong.flags = 0;
    EXPECT_EQ(send(wrong, 3000), 0u);
    for (const uint8_t type : {2, 3, 4, 5, 0x81, 0xff}) {
        wrong = good;
        wrong.gso_type = type;
        EXPECT_EQ(send(wrong, 3000), 0u) << int{type};
    }
    wrong = good;
    wrong.header_length = 3001;
    EXPECT_EQ(send(wrong, 3000), 0u);
    EXPECT_EQ(send(good, 3000), 1u);
}

TEST_F(NetTest, TheBackendSeesTheCheckedHeaderAndThePayload) {
    start(kPlain);
    const uint64_t gpa = transmit_.allocate(12 + 60);
    transmit_.store<uint64_t>(gpa, 0xffff'ffff'ffff'0006);  // DATA_VALID, RSC and rubbish
    transmit_.store<uint32_t>(gpa + 8, 0xffff'ffff);
    transmit_.store<uint8_t>(gpa + 12, 0x42);
    transmit_.add({{gpa, 12, false}, {gpa + 12, 60, false}});
    device_.kick(1);
    ASSERT_EQ(backend_->sent.size(), 1u);
    EXPECT_EQ(backend_->sent[0].size(), 72u);
    EXPECT_EQ(backend_->sent[0].substr(0, 12), std::string(12, '\0'));
    EXPECT_EQ(backend_->sent[0][12], 0x42);
    EXPECT_EQ(device_.statistic("tx_frames"), 1u);
    EXPECT_EQ(device_.statistic("tx_bytes"), 60u);
}

TEST_F(NetTest, AFullBackendLosesFramesNotTheGuest) {
    start(kPlain);
    backend_->full = true;
    send({}, 60);
    EXPECT_EQ(transmit_.used_index(), 1u);
    EXPECT_EQ(device_.statistic("tx_dropped"), 1u);
}

TEST_F(NetTest, ReceivesIntoOneBuffer) {
    start(kPlain);
    const uint64_t gpa = add_receive(1600);
    backend_->arrive(100, 'a');
    device_.kick(0);
    ASSERT_EQ(receive_.used_index(), 1u);
    EXPECT_EQ(receive_.used(0).length, 112u);
    EXPECT_EQ(receive_.load<uint16_t>(gpa + 10), 1u);  // buffers used
    EXPECT_EQ(receive_.load<uint8_t>(gpa + 12), 'a');
    EXPECT_EQ(receive_.load<uint8_t>(gpa + 111), 'a');
    EXPECT_EQ(device_.statistic("rx_frames"), 1u);
    EXPECT_EQ(device_.statistic("rx_bytes"), 100u);
}

TEST_F(NetTest, MergeableBuffersShareALargeFrame) {
    start(kPlain | kCsum | 2 | kGuestTso4 | kMergeable);
    EXPECT_TRUE(backend_->asked.tso4);
    std::vector<uint64_t> buffers;
    for (int i = 0; i < 50; ++i) {
        buffers.push_back(add_receive(1536));
    }
    backend_->arrive(4000, 'm');
    backend_->arrive(100, 'n');
    device_.kick(0);
    ASSERT_EQ(receive_.used_index(), 4u);
    EXPECT_EQ(receive_.used(0).length, 1536u);
    EXPECT_EQ(receive_.used(1).length, 1536u);
    EXPECT_EQ(receive_.used(2).length, 4012u - 2 * 1536);
    EXPECT_EQ(receive_.load<uint16_t>(buffers[0] + 10), 3u);
    EXPECT_EQ(receive_.load<uint8_t>(buffers[2] + 939), 'm');
    EXPECT_EQ(receive_.used(3).length, 112u);
    EXPECT_EQ(receive_.load<uint16_t>(buffers[3] + 10), 1u);
    EXPECT_EQ(device_.interrupts, 1);
}

TEST_F(NetTest, SmallBuffersTakeSmallFramesAndDropLargeOnes) {
    start(kPlain | kMergeable);
    const uint64_t gpa = add_receive(64);
    add_receive(64);
    backend_->arrive(1400, 'x');
    backend_->arrive(40, 'y');
    device_.kick(0);
    EXPECT_EQ(device_.statistic("rx_dropped"), 1u);
    ASSERT_EQ(receive_.used_index(), 1u);
    EXPECT_EQ(receive_.used(0).length, 52u);
    EXPECT_EQ(receive_.load<uint8_t>(gpa + 12), 'y');
}

TEST_F(NetTest, BuffersOfTheWrongKindAreMalformed) {
    start(kPlain);
    receive_.add({{receive_.allocate(64), 64, false}});
    receive_.add({{receive_.allocate(8), 8, true}});  // no room for a header
    const uint64_t good = add_receive(1600);
    backend_->arrive(60, 'z');
    device_.kick(0);
    EXPECT_EQ(device_.statistic("malformed_chains"), 2u);
    EXPECT_EQ(receive_.used_index(), 3u);
    EXPECT_EQ(receive_.load<uint8_t>(good + 12), 'z');
}

TEST_F(NetTest, WithoutBuffersTheBackendIsNotPolled) {
    start(kPlain);
    backend_->arrive(60, 'w');
    device_.kick(0);
    device_.loop().run_ready();
    EXPECT_EQ(backend_->incoming.size(), 1u);  // still there: the guest has no room
    add_receive(1600);
    device_.kick(0);
    EXPECT_EQ(receive_.used_index(), 1u);
}

// After a move: the guest is asked, if it can be, and a frame goes out in its name.
TEST_F(NetTest, AnAnnouncementIsSentAndAskedFor) {
    net_.announce();
    start(1ull << 21);  // GUEST_ANNOUNCE
    EXPECT_TRUE(backend_->sent.empty()) << "without a driver there is nothing to tell";
    net_.announce();
    device_.loop().run_ready();
    ASSERT_EQ(backend_->sent.size(), 1u);
    EXPECT_EQ(backend_->sent[0].substr(18, 6), std::string("\x02\0\0\x01\x02\x03", 6));
    std::array<uint8_t, 2> status{};
    net_.read_config(6, status);
    EXPECT_EQ(status[0], 3) << "link up, and announce";
    backend_->arrive(60, 'a');
    backend_->arrive(60, 'b');
    EXPECT_EQ(net_.drop_waiting_frames(), 2u);
}

TEST_F(NetTest, FramesArriveThroughTheLoop) {
    start(kPlain);
    add_receive(1600);
    device_.kick(0);
    backend_->arrive(60, 'l');
    device_.loop().run_ready();
    EXPECT_EQ(receive_.used_index(), 1u);
}

TEST_F(NetTest, WorkPerWakeUpIsBounded) {
    start(kPlain);
    for (int i = 0; i < 64; ++i) {
        add_receive(1600);
    }
    for (int i = 0; i < 200; ++i) {
        backend_->arrive(60, 'b');
    }
    device_.loop().run_ready();
    EXPECT_LE(receive_.used_index(), NetPair::kFramesPerWakeup);
    EXPECT_GE(backend_->incoming.size(), 200u - NetPair::kFramesPerWakeup);
}

TEST_F(NetTest, FlagsThatWereNotNegotiatedAreCleared) {
    start(kPlain);
    const uint64_t gpa = add_receive(1600);
    backend_->arrive(60, 'f', 2);
    device_.kick(0);
    EXPECT_EQ(receive_.load<uint8_t>(gpa), 0u);
}

TEST_F(NetTest, QuiesceReturnsTheBuffersItHeld) {
    start(kPlain | kMergeable);
    for (int i = 0; i < 3; ++i) {
        add_receive(600);
    }
    device_.kick(0);
    EXPECT_GT(device_.in_flight(), 0u);
    net_.quiesce();
    EXPECT_EQ(device_.in_flight(), 0u);
    backend_->arrive(60, 'q');
    device_.loop().run_ready();
    EXPECT_EQ(receive_.used_index(), 0u);  // paused
    net_.resume();
    device_.kick(0);
    EXPECT_EQ(receive_.used_index(), 1u);
    EXPECT_EQ(receive_.used(0).head, 0u);
}

TEST_F(NetTest, OffersOnlyWhatTheBackendCan) {
    backend_->can = {};
    EXPECT_EQ(net_.features() & 0x7f'ff & ~(1u << 3 | 1u << 5), 0u);
    EXPECT_NE(net_.features() & kMergeable, 0u);
    backend_->can = {.checksum = true};
    EXPECT_EQ(net_.features() & (kCsum | 2), kCsum | 2);
    EXPECT_EQ(net_.features() & (kGuestTso4 | kHostTso4), 0u);
}

TEST_F(NetTest, ConfigurationTellsMacLinkAndMtu) {
    std::vector<uint8_t> config(12);
    net_.read_config(0, config);
    EXPECT_EQ(config, (std::vector<uint8_t>{2, 0, 0, 1, 2, 3, 1, 0, 1, 0, 0xdc, 0x05}));
}

}  // namespace
}  // namespace kumoi::hypervisor
