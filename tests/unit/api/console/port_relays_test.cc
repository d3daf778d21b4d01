#include "api/console/port_relays.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <set>

namespace kumoi::api {
namespace {

class PortRelaysTest : public testing::Test {
protected:
    PortRelaysTest() : path_("/tmp/kumoi-relay-" + std::to_string(::getpid()) + ".sock") {
        ::unlink(path_.c_str());
        guest_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, path_.data(), path_.size());
        EXPECT_EQ(::bind(guest_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        EXPECT_EQ(::listen(guest_.get(), 4), 0);
    }
    ~PortRelaysTest() override { ::unlink(path_.c_str()); }

    static UniqueFd connect_to(uint16_t port) {
        UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        return fd;
    }
    static std::string read_all(int fd, size_t size) {
        std::string bytes(size, '\0');
        size_t done = 0;
        while (done < size) {
            const ssize_t count = ::read(fd, bytes.data() + done, size - done);
            if (count <= 0) {
                break;
            }
            done += static_cast<size_t>(count);
        }
        bytes.resize(done);
        return bytes;
    }

    static UniqueFd accept_from(int listener) {
        pollfd waiting{listener, POLLIN, 0};
        return UniqueFd(::poll(&waiting, 1, 10'000) == 1 ? ::accept(listener, nullptr, nullptr)
                                                         : -1);
    }

    const std::string path_;
    UniqueFd guest_;
    SystemClock clock_;
    std::unique_ptr<PortRelays> relays_ =
        PortRelays::start({"127.0.0.1", 21900, 21909, 600 * kNanosPerSecond, 4}, clock_);
};

TEST_F(PortRelaysTest, BytesGoBothWaysAndTheEndIsTold) {
    const auto port = relays_->open("server", path_);
    ASSERT_TRUE(port.ok()) << port.error().text();
    EXPECT_EQ(relays_->port_of("server"), *port);
    EXPECT_EQ(*relays_->open("server", path_), *port);
    UniqueFd viewer = connect_to(*port);
    UniqueFd guest = accept_from(guest_.get());
    ASSERT_TRUE(guest.is_open());
    ASSERT_EQ(::write(viewer.get(), "hello", 5), 5);
    EXPECT_EQ(read_all(guest.get(), 5), "hello");
    ASSERT_EQ(::write(guest.get(), "RFB 003.008\n", 12), 12);
    EXPECT_EQ(read_all(viewer.get(), 12), "RFB 003.008\n");
    guest.reset();
    EXPECT_EQ(read_all(viewer.get(), 1), "");
}

TEST_F(PortRelaysTest, APortLeadsToItsGuestFromTheMomentItIsGranted) {
    for (int round = 0; round < 500; ++round) {
        relays_ = PortRelays::start({"127.0.0.1", 21900, 21909, 600 * kNanosPerSecond, 4}, clock_);
        const auto port = relays_->open("server", path_);
        ASSERT_TRUE(port.ok()) << port.error().text();
        UniqueFd viewer = connect_to(*port);
        ASSERT_EQ(::write(viewer.get(), "hello", 5), 5);
        UniqueFd guest = accept_from(guest_.get());
        ASSERT_TRUE(guest.is_open()) << "round " << round;
        ASSERT_EQ(read_all(guest.get(), 5), "hello");
    }
}

TEST_F(PortRelaysTest, AConsoleThatIsGoneClosesTheViewer) {
    const auto port = relays_->open("server", path_ + ".gone");
    ASSERT_TRUE(port.ok());
    UniqueFd viewer = connect_to(*port);
    EXPECT_EQ(read_all(viewer.get(), 1), "");
}

TEST_F(PortRelaysTest, EachServerHasItsOwnPortUntilThereIsNone) {
    std::set<uint16_t> ports;
    for (int index = 0; index < 10; ++index) {
        const auto port = relays_->open("server " + std::to_string(index), path_);
        if (port.ok()) {
            ports.insert(*port);
        }
    }
    EXPECT_GE(ports.size(), 9u);  // one may be somebody else's
    EXPECT_EQ(relays_->open("one more", path_).error().code, ErrorCode::Exhausted);
    EXPECT_FALSE(relays_->port_of("one more"));
}

}  // namespace
}  // namespace kumoi::api
