// What the network device itself can do, without a guest: a driver of the bench's own fills the
// rings, the device works on the same thread. One line a figure, `name key=value ...`.
//
//     device_net_bench [TAP]    with the name of an existing TAP interface, through the kernel, too
//
// The memory backend takes frames and gives them for nothing, so its figures are the device's own
// cost. Last the error of the bandwidth limits on a real clock: the device's own thread and timers,
// a driver that never lets its queue run dry.
#include <fmt/core.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "hypervisor/net/tap.h"
#include "hypervisor/virtio/device_runner.h"
#include "hypervisor/virtio/net.h"
#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint16_t kQueueSize = 256;
constexpr int64_t kRunNs = kNanosPerSecond;
constexpr uint32_t kHeader = 12;

class Endless final : public NetBackend {
public:
    explicit Endless(uint64_t frame_size) : frame_(frame_size), fd_(make_eventfd(1).value()) {}
    std::string name() const override { return "memory"; }
    NetOffloads supported() const override { return {true, true, true, false, false}; }
    Result<void> set_offloads(const NetOffloads& /*offloads*/) override { return {}; }
    int poll_fd() const override { return fd_.get(); }
    int64_t receive(std::span<const iovec> vectors) override {
        uint64_t left = frame_;
        for (const iovec& vector : vectors) {
            const uint64_t part = std::min<uint64_t>(left, vector.iov_len);
            std::memset(vector.iov_base, 0, part);
            left -= part;
        }
        return static_cast<int64_t>(frame_);
    }
    int64_t send(std::span<const iovec> vectors) override {
        int64_t size = 0;
        for (const iovec& vector : vectors) {
            size += static_cast<int64_t>(vector.iov_len);
        }
        return size;
    }

private:
    const uint64_t frame_;
    UniqueFd fd_;
};

struct Figure {
    double frames_per_s = 0;
    double mib_per_s = 0;
};

// The rings are filled once and offered again and again: descriptors do not change.
Figure run(std::unique_ptr<NetBackend> backend, bool transmit, uint32_t payload,
           uint64_t features) {
    PlatformFake platform(64u << 20);
    std::vector<std::unique_ptr<NetBackend>> backends;
    backends.push_back(std::move(backend));
    VirtioNet net({.name = "net0", .mac = {2, 0, 0, 0, 0, 1}}, std::move(backends));
    DeviceFake device(net, platform.memory());
    QueueFake& receive = device.add_queue(0, kQueueSize);
    QueueFake& send = device.add_queue(1, kQueueSize);
    QueueFake& queue = transmit ? send : receive;
    if (!device.start(features | virtio::kFeatureVersion1).ok()) {
        std::abort();
    }
    const uint32_t size = kHeader + payload;
    // To everybody, and of an Ethernet type for experiments.
    constexpr std::array<uint8_t, 14> kEthernet{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,
                                                0,    0,    0,    0,    1,    0x88, 0xb5};
    for (uint16_t i = 0; i < kQueueSize; ++i) {
        const uint64_t gpa = 0x100'0000 + uint64_t{i} * 0x1'1000;
        platform.memory().write(gpa + kHeader, std::as_bytes(std::span(kEthernet))).value();
        queue.set_descriptor(i, gpa, size, transmit ? 0 : QueueFake::kWrite, 0);
    }
    const SystemClock clock;
    const int64_t begun = clock.monotonic_ns();
    uint64_t frames = 0;
    int64_t now = begun;
    while (now - begun < kRunNs) {
        for (uint16_t i = 0; i < kQueueSize; ++i) {
            queue.make_available(i);
        }
        const uint16_t wanted = static_cast<uint16_t>(queue.used_index() + kQueueSize);
        while (queue.used_index() != wanted) {
            const uint16_t before = queue.used_index();
            device.kick(transmit ? 1 : 0);
            if (queue.used_index() == before) {
                return {};  // the backend has nothing (a quiet TAP)
            }
        }
        frames += kQueueSize;
        now = clock.monotonic_ns();
    }
    const double seconds = static_cast<double>(now - begun) / 1e9;
    const double sent = static_cast<double>(frames);
    return {sent / seconds, sent * payload / seconds / (1u << 20)};
}

void print(const char* direction, const char* backend, uint32_t payload, const Figure& figure) {
    fmt::print("device_net direction={} backend={} frame={} frames_per_s={:.0f} mib_per_s={:.0f}\n",
               direction, backend, payload, figure.frames_per_s, figure.mib_per_s);
}

struct Silent final : RunnerEvents {
    void queue_interrupt(uint16_t /*queue_index*/) override {}
    void config_interrupt() override {}
    void device_broken(std::string_view /*reason*/) override { std::abort(); }
};

uint64_t bytes_of(const VirtioNet& net, const char* counter) {
    for (const Statistic& statistic : net.statistics()) {
        if (statistic.name == counter) {
            return statistic.value;
        }
    }
    std::abort();
}

// Bytes a second that pass in one direction under a limit of `rate`.
double limited(bool transmit, uint64_t rate) {
    constexpr uint32_t kFrame = kHeader + 1514;
    PlatformFake platform(64u << 20);
    std::vector<std::unique_ptr<NetBackend>> backends;
    backends.push_back(std::make_unique<Endless>(kFrame));
    VirtioNet net({.name = "net0", .mac = {2, 0, 0, 0, 0, 1}}, std::move(backends));
    const SystemClock clock;
    const RateLimit limit{.average = rate};
    net.set_limits(transmit ? NicLimits{.outbound = limit} : NicLimits{.inbound = limit},
                   clock.monotonic_ns())
        .value();
    QueueFake queue(platform.memory(), transmit ? 1 : 0, 0x10'0000, kQueueSize);
    for (uint16_t i = 0; i < kQueueSize; ++i) {
        queue.set_descriptor(i, 0x100'0000 + uint64_t{i} * 2048, kFrame,
                             transmit ? 0 : QueueFake::kWrite, 0);
    }
    Silent silent;
    const auto runner = DeviceRunner::create(net, platform.memory(), silent).value();
    runner->start({queue.config()}, virtio::kFeatureVersion1).value();
    const char* counter = transmit ? "tx_bytes" : "rx_bytes";
    uint16_t offered = 0;
    const auto drive = [&](int64_t nanoseconds) {
        const int64_t end = clock.monotonic_ns() + nanoseconds;
        while (clock.monotonic_ns() < end) {
            while (static_cast<uint16_t>(offered - queue.used_index()) < kQueueSize) {
                queue.make_available(offered++ % kQueueSize);
            }
            runner->ring(queue.config().index);
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
    };
    drive(kRunNs / 10);  // the bucket it starts with
    const uint64_t before = bytes_of(net, counter);
    const int64_t begun = clock.monotonic_ns();
    drive(3 * kRunNs);
    const auto bytes = static_cast<double>(bytes_of(net, counter) - before);
    const auto seconds = static_cast<double>(clock.monotonic_ns() - begun) / 1e9;
    runner->stop();
    return bytes / seconds;
}

void limiter() {
    for (const uint64_t rate : {256u << 10, 10u << 20, 100u << 20}) {
        for (const bool transmit : {true, false}) {
            const double got = limited(transmit, rate);
            const auto wanted = static_cast<double>(rate);
            fmt::print("net_limiter direction={} wanted={} got={:.0f} error={:.2f}%\n",
                       transmit ? "to_host" : "to_guest", rate, got,
                       100 * std::abs(got - wanted) / wanted);
        }
    }
}

}  // namespace

int run_all(const char* tap) {
    constexpr uint64_t kPlain = virtio_net::kMac;
    for (const uint32_t payload : {60u, 1514u, 65000u}) {
        print("to_host", "memory", payload,
              run(std::make_unique<Endless>(kHeader + payload), true, payload, kPlain));
        const uint64_t features =
            payload > 1514 ? kPlain | virtio_net::kGuestChecksum | virtio_net::kGuestTso4 : kPlain;
        print("to_guest", "memory", payload,
              run(std::make_unique<Endless>(kHeader + payload), false, payload, features));
    }
    limiter();
    if (tap == nullptr) {
        return 0;
    }
    for (const uint32_t payload : {60u, 1514u}) {
        auto opened = Tap::open(direct_files(), tap);
        if (!opened.ok()) {
            fmt::print(stderr, "{}\n", opened.error().text());
            return 1;
        }
        print("to_host", "tap", payload, run(std::move(opened).value(), true, payload, kPlain));
    }
    return 0;
}

}  // namespace kumoi::hypervisor

int main(int argc, char** argv) {
    return kumoi::hypervisor::run_all(argc > 1 ? argv[1] : nullptr);
}
