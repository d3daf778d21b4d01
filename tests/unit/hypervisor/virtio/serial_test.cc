#include "hypervisor/virtio/serial.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "base/file.h"
#include "hypervisor/virtio/channel_socket.h"
#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr char kAgent[] = "org.qemu.guest_agent.0";

class BackendFake final : public ChannelBackend {
public:
    Result<void> start(EventLoop& /*loop*/, Events from) override {
        events = std::move(from);
        return {};
    }
    void stop() override { events = {}; }
    bool connected() const override { return is_connected; }
    void set_input_enabled(bool enabled) override { input_enabled = enabled; }
    size_t read(std::span<std::byte> bytes) override {
        const size_t count = std::min(bytes.size(), input.size());
        std::memcpy(bytes.data(), input.data(), count);
        input.erase(0, count);
        return count;
    }
    bool has_room() const override { return room; }
    size_t write(std::span<const std::byte> bytes) override {
        output.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        return bytes.size();
    }
    Events events;
    bool is_connected = false;
    bool input_enabled = false;
    bool room = true;
    std::string input;
    std::string output;
};

struct Control {
    uint32_t id;
    uint16_t event;
    uint16_t value;
};

std::vector<SerialPort> one_port(BackendFake* backend) {
    std::vector<SerialPort> ports;
    ports.push_back({kAgent, std::unique_ptr<ChannelBackend>(backend)});
    return ports;
}

class VirtioSerialTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(device_.start().ok()); }
    void say(uint32_t id, uint16_t event, uint16_t value) {
        const Control control{id, event, value};
        const auto bytes = std::as_bytes(std::span(&control, 1));
        control_out_.add({{control_out_.allocate(bytes), sizeof control, false}});
        device_.kick(3);
    }
    void give_buffers(unsigned count, uint32_t size = 64) {
        for (unsigned i = 0; i < count; ++i) {
            buffers_.push_back(control_in_.allocate(size));
            control_in_.add({{buffers_.back(), size, true}});
        }
        device_.kick(2);
    }
    // "ID EVENT VALUE NAME" of the next message that the guest has not looked at.
    std::string heard() {
        if (seen_ == control_in_.used_index()) {
            return "";
        }
        const auto used = control_in_.used(seen_);
        const auto bytes = control_in_.get(buffers_[seen_++], used.length);
        Control control{};
        std::memcpy(&control, bytes.data(), sizeof control);
        const std::string name(reinterpret_cast<const char*>(bytes.data()) + sizeof control,
                               bytes.size() - sizeof control);
        return fmt::format("{} {} {}{}", control.id, control.event, control.value,
                           name.empty() ? "" : " " + name);
    }
    void introduce() {
        give_buffers(8);
        say(0, 0, 1);
        say(1, 3, 1);
        say(1, 6, 1);
        while (!heard().empty()) {
        }
    }
    PlatformFake platform_;
    BackendFake* backend_ = new BackendFake;
    VirtioSerial serial_{"channels", one_port(backend_)};
    DeviceFake device_{serial_, platform_.memory()};
    QueueFake& control_in_ = device_.add_queue(2, 16);
    QueueFake& control_out_ = device_.add_queue(3, 16);
    QueueFake& receive_ = device_.add_queue(4, 8);
    QueueFake& transmit_ = device_.add_queue(5, 8);
    std::vector<uint64_t> buffers_;
    uint16_t seen_ = 0;
};

TEST_F(VirtioSerialTest, TellsHowManyPortsMayBe) {
    std::vector<uint8_t> bytes(12);
    serial_.read_config(0, bytes);
    EXPECT_EQ(bytes, (std::vector<uint8_t>{0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}));
    EXPECT_EQ(serial_.features(), 2u);
    EXPECT_EQ(serial_.queue_sizes().size(), 6u);
}

TEST_F(VirtioSerialTest, IntroducesThePortAndFollowsWhoIsThere) {
    give_buffers(8);
    EXPECT_EQ(heard(), "");  // the driver has not said that it is there
    say(0, 0, 1);
    EXPECT_EQ(heard(), "1 1 0");
    EXPECT_EQ(heard(), "");
    say(1, 3, 1);
    EXPECT_EQ(heard(), "1 7 1 org.qemu.guest_agent.0");
    EXPECT_EQ(heard(), "");
    backend_->is_connected = true;
    backend_->events.connection_changed();
    EXPECT_EQ(heard(), "1 6 1");
    backend_->is_connected = false;
    backend_->events.connection_changed();
    EXPECT_EQ(heard(), "1 6 0");
    EXPECT_EQ(heard(), "");
}

TEST_F(VirtioSerialTest, WhatItHasToSayWaitsForBuffers) {
    backend_->is_connected = true;
    say(0, 0, 1);
    say(1, 3, 1);
    EXPECT_EQ(heard(), "");
    give_buffers(8);
    EXPECT_EQ(heard(), "1 7 1 org.qemu.guest_agent.0");  // it has answered for the port already
    EXPECT_EQ(heard(), "1 6 1");
}

TEST_F(VirtioSerialTest, ADriverThatAsksForeverIsToldOnceForEachBuffer) {
    give_buffers(2);
    for (int i = 0; i < 100; ++i) {
        say(0, 0, 1);
        say(1, 3, 1);
    }
    EXPECT_EQ(control_in_.used_index(), 2u);
    EXPECT_EQ(device_.statistic("control_from_guest"), 200u);
    EXPECT_EQ(device_.statistic("malformed_chains"), 0u);
}

TEST_F(VirtioSerialTest, BytesGoBothWaysWhileTheGuestHasItOpen) {
    introduce();
    EXPECT_EQ(device_.statistic("open_ports"), 1u);
    const uint64_t gpa = receive_.allocate(16);
    receive_.add({{gpa, 16, true}});
    device_.kick(4);
    EXPECT_TRUE(backend_->input_enabled);
    backend_->input = "ping";
    backend_->events.input_ready();
    ASSERT_EQ(receive_.used_index(), 1u);
    EXPECT_EQ(receive_.used(0).length, 4u);
    EXPECT_FALSE(backend_->input_enabled);  // no buffer is left
    transmit_.add({{transmit_.allocate(bytes_of("pong")), 4, false}});
    device_.kick(5);
    EXPECT_EQ(backend_->output, "pong");
    receive_.add({{receive_.allocate(16), 16, true}});
    say(1, 6, 0);
    backend_->input = "late";
    device_.kick(4);
    EXPECT_FALSE(backend_->input_enabled);
    EXPECT_EQ(backend_->input, "late");
    say(1, 6, 1);
    EXPECT_EQ(receive_.used_index(), 2u);
    EXPECT_EQ(backend_->input, "");
}

TEST_F(VirtioSerialTest, ASlowReaderMakesTheGuestWaitAndLosesNothing) {
    introduce();
    backend_->room = false;
    transmit_.add({{transmit_.allocate(bytes_of("answer")), 6, false}});
    device_.kick(5);
    EXPECT_EQ(transmit_.used_index(), 0u);
    EXPECT_EQ(device_.in_flight(), 0u);
    backend_->room = true;
    backend_->events.output_ready();
    EXPECT_EQ(transmit_.used_index(), 1u);
    EXPECT_EQ(backend_->output, "answer");
    EXPECT_EQ(device_.statistic("tx_lost_bytes"), 0u);
}

TEST_F(VirtioSerialTest, NonsenseIsCountedAndNothingElse) {
    introduce();
    say(0, 3, 1);
    say(2, 6, 1);
    say(0xffff'ffff, 6, 1);
    say(1, 77, 1);
    control_out_.add({{control_out_.allocate(4), 4, false}});
    control_out_.add({{control_out_.allocate(8), 8, true}});
    device_.kick(3);
    receive_.add({{receive_.allocate(8), 8, false}});
    device_.kick(4);
    transmit_.add({{transmit_.allocate(8), 8, true}});
    device_.kick(5);
    EXPECT_EQ(device_.statistic("malformed_chains"), 8u);
    EXPECT_TRUE(device_.broken_reasons.empty());
    EXPECT_EQ(device_.statistic("open_ports"), 1u);
}

TEST_F(VirtioSerialTest, ABufferTooSmallForANameIsPassedOver) {
    give_buffers(1);
    say(0, 0, 1);
    give_buffers(1, 12);
    say(1, 3, 1);
    EXPECT_EQ(heard(), "1 1 0");
    EXPECT_EQ(device_.statistic("malformed_chains"), 1u);
}

TEST_F(VirtioSerialTest, APauseKeepsHandsOff) {
    introduce();
    receive_.add({{receive_.allocate(16), 16, true}});
    device_.kick(4);
    serial_.quiesce();
    EXPECT_FALSE(backend_->input_enabled);
    backend_->is_connected = true;
    backend_->events.connection_changed();
    backend_->input = "x";
    backend_->events.input_ready();
    EXPECT_EQ(receive_.used_index(), 0u);
    EXPECT_EQ(heard(), "");
    serial_.resume();
    device_.kick(2);
    device_.kick(4);
    EXPECT_EQ(heard(), "1 6 1");
    EXPECT_EQ(receive_.used_index(), 1u);
}

TEST_F(VirtioSerialTest, StateIsKeptAndTheGuestHearsThatTheHostsEndWent) {
    introduce();
    backend_->is_connected = true;
    backend_->events.connection_changed();
    serial_.quiesce();
    SectionWriter state("channels", 1);
    serial_.save(state);

    auto* other_backend = new BackendFake;
    VirtioSerial other("channels", one_port(other_backend));
    auto reader = SectionReader::parse(state).value();
    ASSERT_TRUE(other.load(reader).ok());
    EXPECT_TRUE(reader.finish().ok());
    DeviceFake device(other, platform_.memory(), 0xa0'0000);
    QueueFake& control = device.add_queue(2, 8);
    ASSERT_TRUE(device.start().ok());
    const uint64_t gpa = control.allocate(64);
    control.add({{gpa, 64, true}});
    device.kick(2);
    ASSERT_EQ(control.used_index(), 1u);
    EXPECT_EQ(control.load<uint16_t>(gpa + 4), 6u);
    EXPECT_EQ(control.load<uint16_t>(gpa + 6), 0u);
    EXPECT_EQ(device.statistic("open_ports"), 1u);
}

TEST_F(VirtioSerialTest, StatesOfOtherMachinesAreRefused) {
    const auto load = [](const SectionWriter& state) {
        VirtioSerial serial("channels", one_port(new BackendFake));
        auto reader = SectionReader::parse(state).value();
        return serial.load(reader).ok();
    };
    SectionWriter none("channels", 1);
    none.flag(1, true);
    EXPECT_FALSE(load(none));
    SectionWriter named("channels", 1);
    SectionWriter port("somebody.else", 1);
    port.flag(1, true).flag(2, true).flag(3, true).flag(4, true).flag(5, true);
    named.flag(1, true).group(2, port);
    EXPECT_FALSE(load(named));
    SectionWriter two("channels", 1);
    serial_.save(two);
    two.group(2, port);
    EXPECT_FALSE(load(two));
    SectionWriter number("channels", 1);
    SectionWriter odd(kAgent, 1);
    odd.u64(1, 2).flag(2, true).flag(3, true).flag(4, true).flag(5, true);
    number.flag(1, true).group(2, odd);
    EXPECT_FALSE(load(number));
}

TEST(VirtioSerialGolden, FirstReleasesStateIsRead) {
    const std::string body =
        read_file("tests/golden/snapshot/section-1-channels.bin", 1u << 16).value();
    std::vector<SerialPort> ports = one_port(new BackendFake);
    ports.push_back({"second", std::make_unique<BackendFake>()});
    VirtioSerial serial("channels", std::move(ports));
    auto reader = SectionReader::parse("device", 1, std::as_bytes(std::span(body))).value();
    ASSERT_TRUE(serial.load(reader).ok());
    EXPECT_TRUE(reader.finish().ok());
    PlatformFake platform;
    DeviceFake device(serial, platform.memory());
    QueueFake& control = device.add_queue(2, 8);
    ASSERT_TRUE(device.start().ok());
    EXPECT_EQ(device.statistic("open_ports"), 1u);  // the first; the second is not ready
    control.add({{control.allocate(64), 64, true}});
    device.kick(2);
    EXPECT_EQ(control.used_index(), 0u);  // both are introduced
    SectionWriter again("device", 1);
    serial.save(again);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(again.body().data()), again.body().size()),
              body);
}

TEST(VirtioSerialOld, ADriverThatKnowsNoPortsHasNone) {
    PlatformFake platform;
    auto* backend = new BackendFake;
    VirtioSerial serial("channels", one_port(backend));
    DeviceFake device(serial, platform.memory());
    QueueFake& transmit = device.add_queue(1, 8);
    QueueFake& control = device.add_queue(2, 8);
    QueueFake& port = device.add_queue(5, 8);
    ASSERT_TRUE(device.start(virtio::kFeatureVersion1).ok());
    transmit.add({{transmit.allocate(8), 8, false}});
    device.kick(1);
    port.add({{port.allocate(8), 8, false}});
    device.kick(5);
    control.add({{control.allocate(8), 8, true}});
    device.kick(2);
    EXPECT_EQ(transmit.used_index(), 1u);
    EXPECT_EQ(port.used_index(), 1u);
    EXPECT_EQ(control.used_index(), 0u);
    EXPECT_EQ(backend->output, "");
}

class ChannelSocketTest : public testing::Test {
protected:
    void SetUp() override {
        channel_ = ChannelSocket::open(direct_files(), path_).value();
        ASSERT_TRUE(channel_
                        ->start(loop_, {.input_ready = [this] { ++ready_; },
                                        .output_ready = [this] { ++room_; },
                                        .connection_changed = [this] { ++changes_; }})
                        .ok());
    }
    void TearDown() override { channel_->stop(); }
    UniqueFd connect() {
        UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, path_.data(), path_.size());
        EXPECT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)),
                  0);
        return client;
    }
    std::string read() {
        std::byte bytes[64];
        const size_t size = channel_->read(bytes);
        return {reinterpret_cast<const char*>(bytes), size};
    }
    TemporaryDirectory directory_ = TemporaryDirectory::create("channel").value();
    const std::string path_ = directory_.path() + "/socket";
    SystemClock clock_;
    EventLoop loop_{clock_};
    std::unique_ptr<ChannelBackend> channel_;
    int ready_ = 0;
    int room_ = 0;
    int changes_ = 0;
};

TEST_F(ChannelSocketTest, OneClientAtATime) {
    UniqueFd first = connect();
    loop_.run_ready();
    EXPECT_TRUE(channel_->connected());
    UniqueFd second = connect();
    ASSERT_EQ(::write(second.get(), "two", 3), 3);
    ASSERT_EQ(::write(first.get(), "one", 3), 3);
    channel_->set_input_enabled(true);
    loop_.run_ready();
    EXPECT_EQ(ready_, 1);
    EXPECT_EQ(read(), "one");
    first.reset();
    loop_.run_ready();
    loop_.run_ready();
    EXPECT_EQ(changes_, 3);
    EXPECT_TRUE(channel_->connected());
    EXPECT_EQ(read(), "two");
}

TEST_F(ChannelSocketTest, WhatAClientLeftBehindIsDropped) {
    UniqueFd client = connect();
    ASSERT_EQ(::write(client.get(), "stale", 5), 5);
    client.reset();
    loop_.run_ready();
    EXPECT_FALSE(channel_->connected());
    client = connect();
    loop_.run_ready();
    ASSERT_EQ(::write(client.get(), "stale", 5), 5);
    client.reset();
    EXPECT_EQ(read(), "");
    loop_.run_ready();
    EXPECT_FALSE(channel_->connected());
    EXPECT_EQ(changes_, 2);
}

TEST_F(ChannelSocketTest, OneThatOnlyListensStays) {
    UniqueFd client = connect();
    loop_.run_ready();
    ASSERT_EQ(::write(client.get(), "ask", 3), 3);
    ASSERT_EQ(::shutdown(client.get(), SHUT_WR), 0);
    channel_->set_input_enabled(true);
    EXPECT_EQ(read(), "ask");
    EXPECT_EQ(read(), "");
    const int before = ready_;
    loop_.run_ready();
    EXPECT_EQ(ready_, before);
    EXPECT_EQ(channel_->write(bytes_of("answer")), 6u);
    char text[16] = {};
    EXPECT_EQ(::read(client.get(), text, sizeof text), 6);
}

TEST_F(ChannelSocketTest, ASlowReaderIsWaitedFor) {
    EXPECT_EQ(channel_->write(bytes_of("nobody is there")), 15u);
    UniqueFd client = connect();
    loop_.run_ready();
    const std::string much(16384, 'x');
    size_t sent = 0;
    while (channel_->has_room()) {
        sent += channel_->write(bytes_of(much));
    }
    EXPECT_EQ(channel_->write(bytes_of(std::string(1u << 20, 'y'))),
              2 * ChannelSocket::kOutputMax - ChannelSocket::kOutputMax);
    sent += ChannelSocket::kOutputMax;
    std::string got;
    while (got.size() < sent) {
        char bytes[65536];
        const ssize_t count = ::read(client.get(), bytes, sizeof bytes);
        ASSERT_GT(count, 0);
        got.append(bytes, static_cast<size_t>(count));
        loop_.run_ready();
    }
    EXPECT_EQ(room_, 1);
    EXPECT_EQ(got.find_first_not_of('x'), sent - ChannelSocket::kOutputMax);
}

}  // namespace
}  // namespace kumoi::hypervisor
