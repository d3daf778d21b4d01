#include "hypervisor/net/tap.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/fd.h"

namespace kumoi::hypervisor {
namespace {

TEST(Tap, RefusesNamesThatCannotBe) {
    EXPECT_EQ(Tap::open(direct_files(), "").error().code, ErrorCode::InvalidArgument);
    EXPECT_EQ(Tap::open(direct_files(), std::string(IFNAMSIZ, 'x')).error().code,
              ErrorCode::InvalidArgument);
}

TEST(Tap, AMissingDeviceIsNotCreated) {
    auto opened = Tap::open(direct_files(), "kumoi-absent0");
    ASSERT_FALSE(opened.ok());
    EXPECT_EQ(opened.error().code, ErrorCode::NotFound);
    EXPECT_NE(opened.error().hint.find("ip tuntap add"), std::string::npos);
    EXPECT_EQ(if_nametoindex("kumoi-absent0"), 0u);
}

// A persistent TAP of our own, where we may make one.
class TapDevice : public testing::Test {
protected:
    void SetUp() override {
        UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
        ifreq request{};
        name_ = fmt::format("kut{}", ::getpid() % 100000);
        std::memcpy(request.ifr_name, name_.data(), name_.size());
        request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
        if (!fd.is_open() || ::ioctl(fd.get(), TUNSETIFF, &request) != 0 ||
            ::ioctl(fd.get(), TUNSETPERSIST, 1) != 0) {
            GTEST_SKIP() << "cannot make a TAP device here: " << std::strerror(errno);
        }
    }
    void TearDown() override {
        UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
        ifreq request{};
        std::memcpy(request.ifr_name, name_.data(), name_.size());
        request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
        if (fd.is_open() && ::ioctl(fd.get(), TUNSETIFF, &request) == 0) {
            ::ioctl(fd.get(), TUNSETPERSIST, 0);
        }
    }
    std::string name_;
};

TEST_F(TapDevice, OpensOnceAndTakesOffloads) {
    auto tap = Tap::open(direct_files(), name_);
    ASSERT_TRUE(tap.ok()) << tap.error().text();
    EXPECT_FALSE(Tap::open(direct_files(), name_).ok());  // one user at a time
    EXPECT_TRUE((*tap)->supported().checksum);
    EXPECT_TRUE((*tap)->set_offloads((*tap)->supported()).ok());
    EXPECT_TRUE((*tap)->set_offloads({}).ok());
    std::byte frame[128];
    const iovec vector{frame, sizeof(frame)};
    EXPECT_LT((*tap)->receive(std::span(&vector, 1)), 0);  // down: nothing, and no blocking
}

}  // namespace
}  // namespace kumoi::hypervisor
