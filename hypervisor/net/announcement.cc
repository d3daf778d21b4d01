#include "hypervisor/net/announcement.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace kumoi::hypervisor {

std::array<std::byte, kRarpFrameSize> rarp_frame(const MacAddress& mac) {
    constexpr uint8_t kFixed[] = {0x80, 0x35,         // EtherType RARP
                                  0,    1,            // Ethernet
                                  0x08, 0,            // IPv4
                                  6,    4,    0, 3};  // sizes; request reverse
    std::array<std::byte, kRarpFrameSize> frame{};
    auto at = frame.begin() + NetBackend::kHeaderSize;
    const auto put_mac = [&] {
        at = std::ranges::transform(mac, at, [](uint8_t byte) { return std::byte{byte}; }).out;
    };
    at = std::fill_n(at, mac.size(), std::byte{0xff});  // to everybody
    put_mac();
    at = std::ranges::transform(kFixed, at, [](uint8_t byte) { return std::byte{byte}; }).out;
    put_mac();  // the sender,
    at += 4;    // without an address,
    put_mac();  // asks for its own
    return frame;
}

size_t NetBackend::drop_waiting(size_t count_max) {
    std::vector<std::byte> scratch(kHeaderSize + 65536 + 64);
    const iovec whole{scratch.data(), scratch.size()};
    size_t count = 0;
    while (count < count_max && receive(std::span(&whole, 1)) >= 0) {
        ++count;
    }
    return count;
}

void Announcement::begin() {
    loop_.cancel(std::exchange(timer_, 0));
    round_ = 0;
    round();
}

void Announcement::round() {
    timer_ = 0;
    announce_();
    if (++round_ < kRounds) {
        timer_ = loop_.call_after(kFirstDelayNs + (round_ - 1) * kDelayStepNs, [this] { round(); });
    }
}

}  // namespace kumoi::hypervisor
