#include "base/unix_socket.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

namespace kumoi {
namespace {

int64_t soon() {
    return SystemClock().monotonic_ns() + 20 * kNanosPerMilli;
}

class UnixSocketTest : public testing::Test {
protected:
    UniqueFd listen() {
        const UnixAddress address = unix_address(path_).value();
        UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        EXPECT_EQ(::bind(listener.get(), address.generic(), sizeof address.address), 0);
        EXPECT_EQ(::listen(listener.get(), 1), 0);
        return listener;
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("unix-socket").value();
    std::string path_ = directory_.path() + "/socket";
};

TEST_F(UnixSocketTest, APathMustFitIntoAnAddress) {
    EXPECT_TRUE(unix_address(std::string(107, 'x')).ok());
    EXPECT_EQ(unix_address(std::string(108, 'x')).error().code, ErrorCode::InvalidArgument);
    EXPECT_EQ(unix_address("").error().code, ErrorCode::InvalidArgument);
}

TEST_F(UnixSocketTest, SaysWhetherThereIsASocketAndWhetherAnybodyListens) {
    EXPECT_EQ(connect_unix(path_).error().code, ErrorCode::NotFound);
    UniqueFd listener = listen();
    const auto connected = connect_unix(path_, SOCK_NONBLOCK);
    ASSERT_TRUE(connected.ok()) << connected.error().text();
    EXPECT_NE(::fcntl(connected->get(), F_GETFL) & O_NONBLOCK, 0);
    listener.reset();
    EXPECT_EQ(connect_unix(path_).error().code, ErrorCode::Unavailable);
}

TEST_F(UnixSocketTest, WhoSaysNothingIsWaitedForUntilTheDeadline) {
    const UniqueFd listener = listen();
    const UniqueFd fd = connect_unix(path_, SOCK_NONBLOCK).value();
    EXPECT_FALSE(wait_ready(fd.get(), POLLIN, soon()).value());
    EXPECT_TRUE(wait_ready(fd.get(), POLLOUT, soon()).value());
    EXPECT_FALSE(wait_ready(fd.get(), POLLOUT, 0).value());  // it has passed: not even looked
}

TEST_F(UnixSocketTest, SendsAllOrSaysThatThePeerDoesNotRead) {
    const UniqueFd listener = listen();
    const UniqueFd fd = connect_unix(path_, SOCK_NONBLOCK).value();
    EXPECT_TRUE(send_all(fd.get(), "hello", soon()).value());
    EXPECT_FALSE(send_all(fd.get(), std::string(16u << 20, 'x'), soon()).value());
    {
        const UniqueFd peer(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        char bytes[5];
        EXPECT_EQ(::recv(peer.get(), bytes, sizeof bytes, MSG_WAITALL), 5);
        EXPECT_EQ(std::string(bytes, sizeof bytes), "hello");
    }
    EXPECT_FALSE(send_all(fd.get(), "gone", soon()).ok());
}

}  // namespace
}  // namespace kumoi
