#include <cerrno>
#include <cstring>

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "hypervisor/console/console_log.h"
#include "hypervisor/console/console_socket.h"
#include "hypervisor/console/serial_console.h"

namespace kumoi::hypervisor {
namespace {

class ConsoleTest : public ::testing::Test {
protected:
    UniqueFd connect() {
        UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
        EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        loop.run_ready();
        return fd;
    }
    std::string received(const UniqueFd& fd) {
        std::string text;
        char buffer[4096];
        ssize_t count = 0;
        while ((count = read(fd.get(), buffer, sizeof buffer)) > 0) {
            text.append(buffer, static_cast<size_t>(count));
        }
        return text;
    }
    void type(const UniqueFd& fd, std::string_view text) {
        EXPECT_EQ(write(fd.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
        loop.run_ready();
    }
    void guest_prints(std::string_view text) {
        console.output(text);
        loop.run_ready();
    }
    ManualClock clock;
    EventLoop loop{clock};
    TemporaryDirectory directory = TemporaryDirectory::create("console-test").value();
    std::string socket_path = directory.path() + "/s";
    std::string log_path = directory.path() + "/console.log";
    SerialConsole console{loop, ConsoleLog::open(direct_files(), log_path, 8192).value()};
    std::string typed;
};

TEST_F(ConsoleTest, LogsAndGivesLateJoinersTheScrollback) {
    auto socket = ConsoleSocket::listen(loop, direct_files(), socket_path, console);
    ASSERT_TRUE(socket.ok()) << socket.error().text();
    guest_prints("boot\n");
    const UniqueFd late = connect();
    EXPECT_EQ(received(late), "boot\n");
    const UniqueFd second = connect();
    guest_prints("live\n");
    EXPECT_EQ(received(late), "live\n");
    EXPECT_EQ(received(second), "boot\nlive\n");
    EXPECT_EQ(read_file(log_path).value(), "boot\nlive\n");
}

TEST_F(ConsoleTest, HasOneWriterAtATime) {
    auto socket = ConsoleSocket::listen(loop, direct_files(), socket_path, console);
    ASSERT_TRUE(socket.ok());
    console.set_input([this](std::string_view bytes) {
        typed += bytes;
        return bytes.size();
    });
    UniqueFd first = connect();
    const UniqueFd second = connect();
    type(first, "a");
    type(second, "b");
    type(first, "c");
    EXPECT_EQ(typed, "ac");
    first.reset();
    loop.run_ready();
    type(second, "d");
    EXPECT_EQ(typed, "acd");
    EXPECT_EQ((*socket)->reader_count(), 1u);
}

TEST_F(ConsoleTest, DropsAReaderThatDoesNotRead) {
    auto socket = ConsoleSocket::listen(loop, direct_files(), socket_path, console);
    ASSERT_TRUE(socket.ok());
    const UniqueFd slow = connect();
    const UniqueFd quick = connect();
    const std::string chunk(32u << 10, 'x');
    for (int i = 0; i < 64 && (*socket)->reader_count() == 2; ++i) {
        guest_prints(chunk);
        received(quick);
    }
    EXPECT_EQ((*socket)->reader_count(), 1u);
    EXPECT_EQ((*socket)->dropped_count(), 1u);
    guest_prints("on\n");
    EXPECT_EQ(received(quick), "on\n");
}

TEST_F(ConsoleTest, BoundsWhatTheLoopHasNotTaken) {
    const std::string burst(SerialConsole::kPendingMax, 'x');
    console.output(burst);
    console.output("tail");
    loop.run_ready();
    EXPECT_EQ(console.dropped_bytes(), 4u);
    for (size_t i = 0; i < 3 * SerialConsole::kPendingMax; ++i) {
        console.output("y");  // as a guest does while the loop is stuck
    }
    loop.run_ready();
    EXPECT_EQ(console.dropped_bytes(), 4u + 2 * SerialConsole::kPendingMax);
    console.output("xtail");
    loop.run_ready();
    EXPECT_TRUE(console.scrollback().ends_with("xtail"));
}

TEST_F(ConsoleTest, RefusesTooManyReaders) {
    auto socket = ConsoleSocket::listen(loop, direct_files(), socket_path, console);
    ASSERT_TRUE(socket.ok());
    std::vector<UniqueFd> readers;
    for (size_t i = 0; i < ConsoleSocket::kReadersMax + 3; ++i) {
        readers.push_back(connect());
    }
    EXPECT_EQ((*socket)->reader_count(), ConsoleSocket::kReadersMax);
}

TEST(ConsoleLog, RotatesAtItsLimitAndKeepsTheTail) {
    auto directory = TemporaryDirectory::create("log-test").value();
    const std::string path = directory.path() + "/log";
    auto log = ConsoleLog::open(direct_files(), path, 10);
    ASSERT_TRUE(log.ok());
    log->append("0123456789abcde");
    EXPECT_EQ(read_file(path).value(), "abcde");
    EXPECT_EQ(read_file(path + ".1").value(), "0123456789");
    log->append("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    EXPECT_LE(file_size(path).value(), 10u);
    EXPECT_LE(file_size(path + ".1").value(), 10u);
    EXPECT_TRUE(read_file(path).value().ends_with("Z"));
    EXPECT_EQ(log->lost_bytes(), 0u);
}

TEST(ConsoleLog, AppendsToWhatIsThereAndSurvivesAFullDisk) {
    auto directory = TemporaryDirectory::create("log-test").value();
    const std::string path = directory.path() + "/log";
    ASSERT_TRUE(write_file_atomic(path, "old ").ok());
    auto log = ConsoleLog::open(direct_files(), path, 100);
    ASSERT_TRUE(log.ok());
    log->append("new");
    EXPECT_EQ(read_file(path).value(), "old new");
    auto full = ConsoleLog::open(direct_files(), "/dev/full", 100);
    ASSERT_TRUE(full.ok());
    full->append("lost");
    EXPECT_EQ(full->lost_bytes(), 4u);
    EXPECT_FALSE(ConsoleLog::open(direct_files(), "/nonexistent/log", 100).ok());
}

}  // namespace
}  // namespace kumoi::hypervisor
