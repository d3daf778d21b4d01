// Fuzzes virtio-vsock with hostile chains, and with clients of the host that connect and speak.

#include <sys/socket.h>

#include <array>

#include "hypervisor/virtio/vsock.h"
#include "tests/fuzz/virtio_device_fuzz.h"
#include "tests/support/vsock_fake.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static PlatformFake platform;
    FuzzInput input(data, size);
    auto* sockets = new VsockSocketsFake;
    sockets->listening = {0, 1, 2, 80};
    VirtioVsock device("vsock", 3, std::unique_ptr<VsockSockets>(sockets));
    std::vector<UniqueFd> clients;
    for (unsigned count = input.take<uint8_t>() % 4; count > 0; --count) {
        clients.push_back(sockets->arrive());
        const auto bytes = input.bytes(input.take<uint8_t>() % 64);
        [[maybe_unused]] const auto sent =
            ::send(clients.back().get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (bytes.size() % 2 == 1) {
            ::shutdown(clients.back().get(), SHUT_WR);
        }
    }
    fuzz_device(device, platform, input);
    for (const Statistic& statistic : device.statistics()) {
        if (statistic.name == "connections" && statistic.value > VirtioVsock::kConnectionsMax) {
            std::abort();
        }
    }
    return 0;
}
