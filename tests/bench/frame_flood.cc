// Frames into an interface as fast as the kernel takes them, past its queueing discipline, until a
// number of milliseconds is over: the other end of net_bench.py. Prints how many were sent.
//
//     frame_flood INTERFACE SIZE MILLISECONDS
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/fd.h"

int main(int argc, char** argv) {
    if (argc != 4) {
        std::fprintf(stderr, "frame_flood INTERFACE SIZE MILLISECONDS\n");
        return 2;
    }
    constexpr size_t kBatch = 64;
    const kumoi::UniqueFd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(if_nametoindex(argv[1]));
    to.sll_halen = ETH_ALEN;
    const int bypass = 1;
    if (!socket.is_open() || to.sll_ifindex == 0 ||
        ::setsockopt(socket.get(), SOL_PACKET, PACKET_QDISC_BYPASS, &bypass, sizeof bypass) != 0) {
        std::perror("frame_flood");
        return 1;
    }
    std::vector<uint8_t> frame(std::strtoul(argv[2], nullptr, 10));
    frame[0] = 2;  // an individual address of nobody
    frame[12] = 0x08;
    iovec part{frame.data(), frame.size()};
    std::array<mmsghdr, kBatch> messages{};
    for (mmsghdr& message : messages) {
        message.msg_hdr.msg_name = &to;
        message.msg_hdr.msg_namelen = sizeof to;
        message.msg_hdr.msg_iov = &part;
        message.msg_hdr.msg_iovlen = 1;
    }
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::milliseconds(std::atoi(argv[3]));
    uint64_t sent = 0;
    while (Clock::now() < end) {  // ENOBUFS: the interface is full, which is what we are here for
        const int count = ::sendmmsg(socket.get(), messages.data(), kBatch, 0);
        sent += count > 0 ? static_cast<uint64_t>(count) : 0;
    }
    std::printf("%llu\n", static_cast<unsigned long long>(sent));
    return 0;
}
