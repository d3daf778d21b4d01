#include "hypervisor/virtio/net_control.h"

#include <gtest/gtest.h>

#include "hypervisor/virtio/net.h"
#include "tests/support/net_backend_fake.h"
#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kAll =
    ~virtio::kFeatureEventIndex & ~virtio_net::kMergeableBuffers & ~virtio_net::kGuestSegmentation;
const std::string kMine("\x02\0\0\x01\x02\x03", 6);
const std::string kOther("\x02\0\0\x09\x09\x09", 6);
const std::string kGroup("\x01\0\x5e\0\0\x01", 6);
const std::string kGroupTwo("\x01\0\x5e\0\0\x02", 6);
const std::string kEveryone(6, '\xff');

class NetControlTest : public testing::Test {
protected:
    void start(uint64_t features = kAll, uint16_t control_index = 6) {
        control_ = &device_.add_queue(control_index, 16);
        ASSERT_TRUE(device_.start(features).ok());
        control_index_ = control_index;
    }
    // 0: done, 1: refused
    int command(uint8_t kind, uint8_t code, const std::string& data) {
        const std::string bytes =
            std::string{static_cast<char>(kind), static_cast<char>(code)} + data;
        const uint64_t gpa = control_->allocate(bytes_of(bytes));
        const uint64_t answer = control_->allocate(1);
        control_->store<uint8_t>(answer, 0xee);
        control_->add({{gpa, static_cast<uint32_t>(bytes.size()), false}, {answer, 1, true}});
        device_.kick(control_index_);
        return control_->load<uint8_t>(answer);
    }
    template <class T>
    static std::string raw(T value) {
        return std::string(reinterpret_cast<const char*>(&value), sizeof(T));
    }
    static std::string table(const std::vector<std::string>& unicast,
                             const std::vector<std::string>& multicast) {
        std::string bytes = raw(static_cast<uint32_t>(unicast.size()));
        for (const auto& address : unicast) {
            bytes += address;
        }
        bytes += raw(static_cast<uint32_t>(multicast.size()));
        for (const auto& address : multicast) {
            bytes += address;
        }
        return bytes;
    }
    bool arrives(const std::string& to, int vlan = -1) {
        const uint64_t gpa = receive_.allocate(2048);
        receive_.add({{gpa, 2048, true}});
        const std::string tag = vlan < 0 ? std::string("\x08\0", 2)
                                         : std::string("\x81\0", 2) + static_cast<char>(vlan >> 8) +
                                               static_cast<char>(vlan) + std::string("\x08\0", 2);
        const uint64_t before = device_.statistic("rx_frames");
        first_->arrive(to + kOther + tag + std::string(50, 'p'));
        device_.kick(0);
        return device_.statistic("rx_frames") == before + 1;
    }
    uint16_t status() const {
        uint8_t bytes[2];
        net_.read_config(6, bytes);
        return static_cast<uint16_t>(bytes[0] | bytes[1] << 8);
    }

    PlatformFake platform_;
    BackendInMemory* first_ = new BackendInMemory;
    BackendInMemory* second_ = new BackendInMemory;
    BackendInMemory* third_ = new BackendInMemory;
    VirtioNet net_{{.name = "net0", .mac = {2, 0, 0, 1, 2, 3}, .mtu = 1500, .queue_size = 64},
                   backends_of({first_, second_, third_})};
    DeviceFake device_{net_, platform_.memory()};
    QueueFake& receive_ = device_.add_queue(0, 64);
    QueueFake& transmit_ = device_.add_queue(1, 64);
    QueueFake& receive_two_ = device_.add_queue(2, 64);
    QueueFake* control_ = nullptr;
    uint16_t control_index_ = 6;
};

TEST_F(NetControlTest, EverythingArrivesUntilTheDriverChooses) {
    start();
    EXPECT_TRUE(arrives(kOther));
    EXPECT_TRUE(arrives(kGroup));
    EXPECT_EQ(command(0, 0, raw<uint8_t>(0)), 0);  // not promiscuous any more
    EXPECT_FALSE(arrives(kOther));
    EXPECT_FALSE(arrives(kGroup));
    EXPECT_TRUE(arrives(kMine));
    EXPECT_TRUE(arrives(kEveryone));
    EXPECT_EQ(device_.statistic("rx_filtered"), 2u);
}

TEST_F(NetControlTest, ReceiveModes) {
    start();
    ASSERT_EQ(command(0, 0, raw<uint8_t>(0)), 0);
    ASSERT_EQ(command(0, 1, raw<uint8_t>(1)), 0);  // all multicast
    EXPECT_TRUE(arrives(kGroup));
    ASSERT_EQ(command(0, 3, raw<uint8_t>(1)), 0);  // no multicast
    EXPECT_FALSE(arrives(kGroup));
    ASSERT_EQ(command(0, 2, raw<uint8_t>(1)), 0);  // all unicast
    EXPECT_TRUE(arrives(kOther));
    ASSERT_EQ(command(0, 4, raw<uint8_t>(1)), 0);  // no unicast
    EXPECT_FALSE(arrives(kMine));
    ASSERT_EQ(command(0, 5, raw<uint8_t>(1)), 0);  // no broadcast
    EXPECT_FALSE(arrives(kEveryone));
    EXPECT_EQ(command(0, 6, raw<uint8_t>(1)), 1);
    EXPECT_EQ(command(0, 0, "xx"), 1);
}

TEST_F(NetControlTest, AddressTables) {
    start();
    ASSERT_EQ(command(0, 0, raw<uint8_t>(0)), 0);
    ASSERT_EQ(command(1, 0, table({kOther}, {kGroup})), 0);
    EXPECT_TRUE(arrives(kOther));
    EXPECT_TRUE(arrives(kGroup));
    EXPECT_FALSE(arrives(kGroupTwo));
    ASSERT_EQ(command(1, 0, table({}, std::vector<std::string>(65, kGroup))), 0);
    EXPECT_TRUE(arrives(kGroupTwo));  // more than is kept: all of them
    EXPECT_FALSE(arrives(kOther));
    EXPECT_EQ(command(1, 0, raw<uint32_t>(1'000'000)), 1);
    EXPECT_EQ(command(1, 0, table({kOther}, {}) + "x"), 1);
    EXPECT_EQ(command(1, 0, raw<uint32_t>(0)), 1);  // the second table is missing
    EXPECT_TRUE(arrives(kGroupTwo));                // as before
}

TEST_F(NetControlTest, TheAddressChanges) {
    start();
    ASSERT_EQ(command(0, 0, raw<uint8_t>(0)), 0);
    ASSERT_EQ(command(1, 1, kOther), 0);
    EXPECT_TRUE(arrives(kOther));
    EXPECT_FALSE(arrives(kMine));
    uint8_t mac[6];
    net_.read_config(0, mac);
    EXPECT_EQ(std::string(reinterpret_cast<char*>(mac), 6), kOther);
    EXPECT_EQ(command(1, 1, "short"), 1);
    device_.stop();
    net_.read_config(0, mac);
    EXPECT_EQ(std::string(reinterpret_cast<char*>(mac), 6), kMine);
}

TEST_F(NetControlTest, Vlans) {
    start();
    ASSERT_EQ(command(0, 0, raw<uint8_t>(0)), 0);
    EXPECT_FALSE(arrives(kMine, 100));
    EXPECT_TRUE(arrives(kMine));
    ASSERT_EQ(command(2, 0, raw<uint16_t>(100)), 0);
    EXPECT_TRUE(arrives(kMine, 100));
    EXPECT_FALSE(arrives(kMine, 101));
    ASSERT_EQ(command(2, 1, raw<uint16_t>(100)), 0);
    EXPECT_FALSE(arrives(kMine, 100));
    EXPECT_EQ(command(2, 0, raw<uint16_t>(4096)), 1);
    EXPECT_EQ(command(2, 2, raw<uint16_t>(1)), 1);
}

TEST_F(NetControlTest, WithoutVlanFilteringAllTagsPass) {
    start(kAll & ~virtio_net::kControlVlan);
    ASSERT_EQ(command(0, 0, raw<uint8_t>(0)), 0);
    EXPECT_TRUE(arrives(kMine, 100));
    EXPECT_EQ(command(2, 0, raw<uint16_t>(1)), 1);
}

TEST_F(NetControlTest, PairsWaitUntilTheDriverAsksForThem) {
    start();
    EXPECT_TRUE(first_->active);
    EXPECT_FALSE(second_->active);
    const uint64_t gpa = receive_two_.allocate(2048);
    receive_two_.add({{gpa, 2048, true}});
    second_->arrive(60, 'x');
    device_.kick(2);
    EXPECT_EQ(receive_two_.used_index(), 0u);
    ASSERT_EQ(command(4, 0, raw<uint16_t>(2)), 0);
    EXPECT_TRUE(second_->active);
    EXPECT_FALSE(third_->active);
    EXPECT_EQ(receive_two_.used_index(), 1u);
    EXPECT_EQ(command(4, 0, raw<uint16_t>(0)), 1);
    EXPECT_EQ(command(4, 0, raw<uint16_t>(4)), 1);
    EXPECT_EQ(command(4, 1, raw<uint16_t>(1)), 1);  // RSS is not offered
    EXPECT_EQ(device_.statistic("queue_pairs"), 2u);
    ASSERT_EQ(command(4, 0, raw<uint16_t>(1)), 0);
    EXPECT_FALSE(second_->active);
}

TEST_F(NetControlTest, ADriverWithoutMultiQueueFindsItsControlQueueAtTwo) {
    PlatformFake platform;
    VirtioNet net({.name = "net0", .mac = {2, 0, 0, 1, 2, 3}},
                  backends_of({new BackendInMemory, new BackendInMemory}));
    DeviceFake device(net, platform.memory());
    device.add_queue(0, 64);
    device.add_queue(1, 64);
    QueueFake& control = device.add_queue(2, 16);
    ASSERT_TRUE(device.start(kAll & ~virtio_net::kMultiQueue).ok());
    const uint64_t gpa = control.allocate(bytes_of(std::string("\0\0\0", 3)));
    const uint64_t answer = control.allocate(1);
    control.store<uint8_t>(answer, 0xee);
    control.add({{gpa, 3, false}, {answer, 1, true}});
    device.kick(2);
    EXPECT_EQ(control.load<uint8_t>(answer), 0);
}

TEST_F(NetControlTest, OffloadsShrinkToWhatWasAgreed) {
    start(~virtio::kFeatureEventIndex);
    EXPECT_TRUE(first_->asked.tso4);
    ASSERT_EQ(command(5, 0, raw<uint64_t>(virtio_net::kGuestChecksum)), 0);
    EXPECT_TRUE(first_->asked.checksum);
    EXPECT_FALSE(first_->asked.tso4);
    EXPECT_EQ(command(5, 0, raw<uint64_t>(1ull << 40)), 1);
    EXPECT_EQ(command(5, 0, "short"), 1);
}

TEST_F(NetControlTest, AnnouncesWhenAskedAndStopsWhenAcknowledged) {
    start();
    EXPECT_EQ(status(), virtio_net::kLinkUp);
    net_.announce();
    EXPECT_EQ(status(), virtio_net::kLinkUp | virtio_net::kAnnounce);
    EXPECT_EQ(device_.config_changes, 1);
    EXPECT_EQ(command(3, 0, ""), 0);
    EXPECT_EQ(status(), virtio_net::kLinkUp);
}

TEST_F(NetControlTest, WhatWasNotAgreedIsRefused) {
    start(virtio::kFeatureVersion1 | virtio_net::kControlQueue | virtio_net::kMultiQueue);
    EXPECT_EQ(command(0, 0, raw<uint8_t>(0)), 1);
    EXPECT_EQ(command(1, 1, kOther), 1);
    EXPECT_EQ(command(2, 0, raw<uint16_t>(1)), 1);
    EXPECT_EQ(command(3, 0, ""), 1);
    EXPECT_EQ(command(5, 0, raw<uint64_t>(0)), 1);
    EXPECT_EQ(command(99, 0, ""), 1);
    EXPECT_TRUE(arrives(kOther));
    net_.announce();
    EXPECT_EQ(device_.config_changes, 0);
    EXPECT_EQ(device_.statistic("control_refused"), 6u);
}

TEST_F(NetControlTest, HostileChainsAreAnsweredOrIgnored) {
    start();
    control_->add({{0x80'0000, 100'000, false}, {control_->allocate(1), 1, true}});
    control_->add({{control_->allocate(2), 2, false}});  // nowhere to answer
    control_->add({{control_->allocate(2), 1, true}});   // no command
    device_.kick(6);
    EXPECT_EQ(control_->used_index(), 3u);
    EXPECT_EQ(control_->used(1).length, 0u);
    EXPECT_TRUE(device_.broken_reasons.empty());
}

TEST_F(NetControlTest, StateMovesToAnotherCard) {
    NetControl one({2, 0, 0, 1, 2, 3}, 4,
                   {[](uint64_t) { return true; }, [](uint16_t) { return true; }});
    one.begin(kAll);
    one.set_announcing(true);
    SectionWriter out("net0", 1);
    one.save(out);
    NetControl two({2, 9, 9, 9, 9, 9}, 4, {});
    auto in = SectionReader::parse(out).value();
    ASSERT_TRUE(two.load(in).ok());
    EXPECT_EQ(two.mac(), one.mac());
    EXPECT_TRUE(two.announcing());
    NetControl small({2, 9, 9, 9, 9, 9}, 1, {});
    SectionWriter many("net0", 1);
    many.u64(1, 4);
    auto hostile = SectionReader::parse(many).value();
    EXPECT_FALSE(small.load(hostile).ok());
}

}  // namespace
}  // namespace kumoi::hypervisor
