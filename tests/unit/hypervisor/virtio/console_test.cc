#include "hypervisor/virtio/console.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "hypervisor/virtio/console_socket.h"
#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

class BackendFake final : public ConsoleBackend {
public:
    Result<void> start(EventLoop& /*loop*/, std::function<void()> input_ready) override {
        ready = std::move(input_ready);
        return {};
    }
    void stop() override { ready = nullptr; }
    void set_input_enabled(bool enabled) override { input_enabled = enabled; }
    size_t write(std::span<const std::byte> bytes) override {
        const size_t count = std::min(bytes.size(), room);
        output.append(reinterpret_cast<const char*>(bytes.data()), count);
        room -= count;
        return count;
    }
    size_t read(std::span<std::byte> bytes) override {
        const size_t count = std::min(bytes.size(), input.size());
        std::memcpy(bytes.data(), input.data(), count);
        input.erase(0, count);
        return count;
    }
    std::function<void()> ready;
    std::string input;
    std::string output;
    size_t room = 1u << 20;
    bool input_enabled = false;
};

class VirtioConsoleTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(device_.start().ok()); }
    std::string text_at(uint64_t gpa, size_t size) {
        const auto bytes = receive_.get(gpa, size);
        return {reinterpret_cast<const char*>(bytes.data()), size};
    }
    PlatformFake platform_;
    BackendFake* backend_ = new BackendFake;
    VirtioConsole console_{"console0", std::unique_ptr<ConsoleBackend>(backend_), 80, 25};
    DeviceFake device_{console_, platform_.memory()};
    QueueFake& receive_ = device_.add_queue(0, 8);
    QueueFake& transmit_ = device_.add_queue(1, 8);
};

TEST_F(VirtioConsoleTest, WrongDirectionsAreMalformed) {
    transmit_.add({{transmit_.allocate(8), 8, true}});
    device_.kick(1);
    receive_.add({{receive_.allocate(8), 8, false}});
    device_.kick(0);
    EXPECT_EQ(device_.statistic("malformed_chains"), 2u);
    EXPECT_EQ(transmit_.used_index(), 1u);
    EXPECT_EQ(receive_.used_index(), 1u);
    EXPECT_EQ(backend_->output, "");
}

TEST_F(VirtioConsoleTest, OutputReachesTheBackendInOrder) {
    transmit_.add({{transmit_.allocate(bytes_of("hello ")), 6, false},
                   {transmit_.allocate(bytes_of("world")), 5, false}});
    device_.kick(1);
    EXPECT_EQ(backend_->output, "hello world");
    EXPECT_EQ(transmit_.used_index(), 1u);
    EXPECT_EQ(transmit_.used(0).length, 0u);
}

TEST_F(VirtioConsoleTest, AStuckReaderCostsOutputButNotTheGuest) {
    backend_->room = 3;
    transmit_.add({{transmit_.allocate(bytes_of("abcdef")), 6, false}});
    device_.kick(1);
    EXPECT_EQ(transmit_.used_index(), 1u);
    EXPECT_EQ(device_.statistic("tx_lost_bytes"), 3u);
}

TEST_F(VirtioConsoleTest, InputWaitsForBuffers) {
    backend_->input = "typed";
    device_.kick(0);
    EXPECT_FALSE(backend_->input_enabled);
    const uint64_t gpa = receive_.allocate(3);
    const uint64_t more = receive_.allocate(16);
    receive_.add({{gpa, 3, true}});
    receive_.add({{more, 16, true}});
    device_.kick(0);
    EXPECT_EQ(receive_.used_index(), 2u);
    EXPECT_EQ(receive_.used(0).length, 3u);
    EXPECT_EQ(receive_.used(1).length, 2u);
    EXPECT_EQ(text_at(gpa, 3), "typ");
    EXPECT_EQ(text_at(more, 2), "ed");
}

TEST_F(VirtioConsoleTest, InputLaterGoesIntoWaitingBuffers) {
    const uint64_t gpa = receive_.allocate(16);
    receive_.add({{gpa, 16, true}});
    device_.kick(0);
    EXPECT_TRUE(backend_->input_enabled);
    EXPECT_EQ(receive_.used_index(), 0u);
    backend_->input = "x";
    backend_->ready();
    EXPECT_EQ(receive_.used_index(), 1u);
    EXPECT_EQ(text_at(gpa, 1), "x");
}

TEST_F(VirtioConsoleTest, PausedMeansNoInput) {
    receive_.add({{receive_.allocate(16), 16, true}});
    device_.kick(0);
    console_.quiesce();
    EXPECT_FALSE(backend_->input_enabled);
    EXPECT_EQ(device_.in_flight(), 0u);
}

TEST_F(VirtioConsoleTest, TellsItsSize) {
    std::vector<uint8_t> bytes(4);
    console_.read_config(0, bytes);
    EXPECT_EQ(bytes, (std::vector<uint8_t>{80, 0, 25, 0}));
    EXPECT_EQ(console_.features(), 1u);
}

TEST(SocketConsole, RefusesAPathThatIsTooLong) {
    EXPECT_FALSE(SocketConsole::open(direct_files(), std::string(200, 'x')).ok());
    EXPECT_FALSE(SocketConsole::open(direct_files(), "/nonexistent-directory/socket").ok());
}

TEST(SocketConsole, CarriesBytesBothWays) {
    auto directory = TemporaryDirectory::create("console").value();
    const std::string path = directory.path() + "/socket";
    SystemClock clock;
    EventLoop loop(clock);
    auto console = SocketConsole::open(direct_files(), path).value();
    int ready = 0;
    ASSERT_TRUE(console->start(loop, [&ready] { ++ready; }).ok());
    console->set_input_enabled(true);

    UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    loop.run_ready();
    EXPECT_EQ(console->write(bytes_of("boot")), 4u);
    char text[16] = {};
    EXPECT_EQ(::read(client.get(), text, sizeof(text)), 4);
    EXPECT_STREQ(text, "boot");

    ASSERT_EQ(::write(client.get(), "ls", 2), 2);
    loop.run_ready();
    EXPECT_EQ(ready, 1);
    std::byte input[8];
    EXPECT_EQ(console->read(input), 2u);
    client.reset();
    EXPECT_EQ(console->read(input), 0u);  // hang-up: the client is dropped
    loop.run_ready();
    EXPECT_EQ(ready, 1);
    console->stop();
    console.reset();
    EXPECT_FALSE(path_exists(path));
}

}  // namespace
}  // namespace kumoi::hypervisor
