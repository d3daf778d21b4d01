// A vhost-user back end that says anything: the input is what it sends, and what it leaves in the
// shared ring.

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "hypervisor/vhost_user/connection.h"
#include "hypervisor/vhost_user/driver_ring.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

constexpr size_t kRingBytes = 256;

void converse(std::span<const std::byte> said) {
    std::array<int, 2> pair{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) {
        return;
    }
    const UniqueFd far(pair[1]);
    (void)write_all(far.get(), said.first(std::min<size_t>(said.size(), 16384)));
    ::shutdown(far.get(), SHUT_WR);  // after that it is gone: nothing waits
    auto connection = VhostUserConnection::over(UniqueFd(pair[0]), {.timeout_ms = 1000});
    if (!connection->negotiate({.features = ~0ull, .protocol_features = ~0ull}).ok()) {
        return;
    }
    std::array<std::byte, 60> config{};
    (void)connection->queue_count();
    (void)connection->read_config(config);
    (void)connection->write_config(32, std::span(config).first(1));
    (void)connection->get_inflight(4, 128);
    (void)connection->start_ring({.index = 0, .size = 8});
    (void)connection->stop_ring(0);
    (void)connection->set_mtu(1500);
}

void use_ring(std::span<const std::byte> left) {
    constexpr uint16_t kSize = 8;
    alignas(64) std::array<std::byte, 1024> memory{};
    DriverRing ring(memory, kSize);
    for (uint16_t slot = 0; slot < 5; ++slot) {
        ring.give(slot);
    }
    (void)ring.publish();
    auto* used = const_cast<std::byte*>(ring.used());
    std::memcpy(used, left.data(), std::min<size_t>(left.size(), 4 + 8 * kSize));
    for (int i = 0; i < 10; ++i) {
        const auto taken = ring.take();
        if (!taken.ok() || !taken->has_value()) {
            break;
        }
        if (**taken >= 5) {
            std::abort();  // was never given
        }
    }
    if (ring.with_back_end() > 5) {
        std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto bytes = std::as_bytes(std::span(data, size));
    use_ring(bytes.first(std::min(bytes.size(), kRingBytes)));
    converse(bytes);
    return 0;
}
