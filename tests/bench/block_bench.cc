// Device-side disk throughput: the virtio-blk device on its own threads, driven through its
// queue by
// a driver in this process, without a guest; and the same driver on a real qemu-storage-daemon's
// vhost-user-blk, in turns with it. Then the error of the rate limiter on a real clock.
//
//     block_bench [seconds a run] [MiB of the file] [part of a workload's name]
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>

#include <fmt/core.h>

#include "base/clock.h"
#include "base/random.h"
#include "hypervisor/block/raw_image.h"
#include "hypervisor/sandbox/file_source.h"
#include "hypervisor/vhost_user/connection.h"
#include "hypervisor/vhost_user/driver_ring.h"
#include "hypervisor/virtio/block.h"
#include "hypervisor/virtio/block_wire.h"
#include "hypervisor/virtio/device_runner.h"

extern char** environ;

namespace kumoi::hypervisor {
namespace {

using namespace virtio_block;

constexpr uint64_t kMemorySize = 64u << 20;
constexpr uint16_t kRingSize = 128;
constexpr uint64_t kPagesAt = 1u << 20;  // a page a slot: indirect table, header, status
constexpr uint64_t kDataAt = 8u << 20;
constexpr int kRuns = 3;

struct Workload {
    const char* name;
    uint32_t type;
    uint32_t size;  // bytes a request
    unsigned depth;
    bool random;
};
constexpr Workload kWorkloads[] = {
    {"random_read_4k", kTypeIn, 4096, 1, true},     {"random_read_4k", kTypeIn, 4096, 32, true},
    {"random_write_4k", kTypeOut, 4096, 1, true},   {"random_write_4k", kTypeOut, 4096, 32, true},
    {"read_128k", kTypeIn, 128 << 10, 1, false},    {"read_128k", kTypeIn, 128 << 10, 32, false},
    {"write_128k", kTypeOut, 128 << 10, 32, false},
};

// The driver's side of one queue, for any device that has a kick and a call eventfd.
class Driver {
public:
    explicit Driver(GuestMemory& memory)
        : memory_(memory),
          ring_({memory.regions()[0].host, DriverRing::bytes(kRingSize)}, kRingSize) {}

    uint64_t gpa(const std::byte* host) const {
        return static_cast<uint64_t>(host - memory_.regions()[0].host);
    }
    QueueConfig config() const {
        return {0, kRingSize, gpa(ring_.descriptors()), gpa(ring_.available()), gpa(ring_.used())};
    }
    DriverRing& ring() { return ring_; }
    void fresh() { ring_.reset(); }

    void give(uint16_t slot, const Workload& work, uint64_t sector) {
        struct Page {
            std::array<DriverRing::Descriptor, 3> table;
            Header header;
            uint8_t status;
        };
        auto* page = reinterpret_cast<Page*>(memory_.regions()[0].host + kPagesAt + slot * 4096u);
        const uint64_t at = kPagesAt + slot * 4096u;
        const uint64_t data = kDataAt + slot * uint64_t{128 << 10};
        const auto write = static_cast<uint16_t>(work.type == kTypeIn ? DriverRing::kWrite : 0);
        page->header = {work.type, 0, sector};
        page->status = 0xff;
        page->table[0] = {at + offsetof(Page, header), sizeof(Header), DriverRing::kNext, 1};
        page->table[1] = {data, work.size, static_cast<uint16_t>(DriverRing::kNext | write), 2};
        page->table[2] = {at + offsetof(Page, status), 1, DriverRing::kWrite, 0};
        ring_.set_descriptor(slot, {at, sizeof(page->table), DriverRing::kIndirect, 0});
        ring_.give(slot);
    }

    // Requests done within the time; the driver sleeps in poll(2) as a guest would in HLT.
    uint64_t run(const Workload& work, uint64_t sectors, int64_t duration_ns, int kick, int call) {
        const SystemClock clock;
        SeededRandom random(7);
        uint64_t next = 0;
        const uint64_t step = work.size / kSectorSize;
        const auto place = [&] {
            const uint64_t block = work.random ? random.next() % (sectors / step) : next++;
            return block % (sectors / step) * step;
        };
        for (uint16_t slot = 0; slot < work.depth; ++slot) {
            give(slot, work, place());
        }
        const int64_t end = clock.monotonic_ns() + duration_ns;
        uint64_t done = 0;
        while (ring_.with_back_end() > 0) {
            if (ring_.publish()) {
                const uint64_t one = 1;
                [[maybe_unused]] const ssize_t size = ::write(kick, &one, sizeof(one));
            }
            pollfd polled{call, POLLIN, 0};
            ::poll(&polled, 1, 5000);
            uint64_t count = 0;
            [[maybe_unused]] const ssize_t size = ::read(call, &count, sizeof(count));
            const bool more = clock.monotonic_ns() < end;
            while (auto slot = ring_.take().value()) {
                ++done;
                if (more) {
                    give(*slot, work, place());
                }
            }
        }
        return done;
    }

private:
    GuestMemory& memory_;
    DriverRing ring_;
};

class Ours final : private RunnerEvents {
public:
    Ours(GuestMemory& memory, Driver& driver, const std::string& path,
         const DiskLimits& limits = {})
        : call_(make_eventfd().value()) {
        driver.fresh();
        auto image = RawImage::open(direct_files(), {.path = path}).value();
        block_ = std::make_unique<VirtioBlock>("bench", std::move(image), "", kRingSize);
        block_->set_limits(limits, SystemClock().monotonic_ns()).value();
        runner_ = DeviceRunner::create(*block_, memory, *this).value();
        runner_
            ->start({driver.config()}, block_->features() | virtio::kFeatureVersion1 |
                                           virtio::kFeatureIndirectDescriptors)
            .value();
    }
    int kick() const { return runner_->doorbell(0); }
    int call() const { return call_.get(); }

private:
    void queue_interrupt(uint16_t /*queue_index*/) override {
        const uint64_t one = 1;
        [[maybe_unused]] const ssize_t size = ::write(call_.get(), &one, sizeof(one));
    }
    void config_interrupt() override {}
    void device_broken(std::string_view reason) override {
        fmt::print(stderr, "the device broke: {}\n", reason);
        std::abort();
    }
    UniqueFd call_;
    std::unique_ptr<VirtioBlock> block_;
    std::unique_ptr<DeviceRunner> runner_;
};

class Peer {
public:
    Peer(const std::string& folder, const std::string& path, const std::string& aio)
        : socket_(folder + "/peer.sock") {
        const std::string blockdev =
            fmt::format("driver=file,node-name=disk,filename={},aio={}", path, aio);
        const std::string exported = fmt::format(
            "type=vhost-user-blk,id=e,node-name=disk,writable=on,addr.type=unix,"
            "addr.path={}",
            socket_);
        const std::array<const char*, 6> arguments{"qemu-storage-daemon", "--blockdev",
                                                   blockdev.c_str(),      "--export",
                                                   exported.c_str(),      nullptr};
        ::unlink(socket_.c_str());
        if (::posix_spawnp(&pid_, arguments[0], nullptr, nullptr,
                           const_cast<char* const*>(arguments.data()), environ) != 0) {
            pid_ = -1;
        }
    }
    ~Peer() {
        connection_.reset();
        if (pid_ > 0) {
            ::kill(pid_, SIGTERM);
            ::waitpid(pid_, nullptr, 0);
        }
    }
    Result<void> attach(GuestMemory& memory, Driver& driver) {
        driver.fresh();
        for (int attempt = 0; attempt < 200 && !connection_; ++attempt) {
            if (auto made = VhostUserConnection::connect(socket_, {}); made.ok()) {
                connection_ = std::move(made).value();
            } else {
                ::usleep(20000);
            }
        }
        if (!connection_) {
            return Error::unavailable("qemu-storage-daemon does not listen");
        }
        TRY(connection_->negotiate(
            {.features = virtio::kFeatureVersion1 | virtio::kFeatureIndirectDescriptors,
             .protocol_features = vhost_user::kProtocolConfig | vhost_user::kProtocolReplyAck}));
        TRY(connection_->set_memory_table(memory_table_of(memory)));
        kick_ = TRY(make_eventfd());
        call_ = TRY(make_eventfd());
        return connection_->start_ring({.index = 0,
                                        .size = kRingSize,
                                        .descriptors = driver.ring().descriptors(),
                                        .available = driver.ring().available(),
                                        .used = driver.ring().used(),
                                        .kick_fd = kick_.get(),
                                        .call_fd = call_.get()});
    }
    int kick() const { return kick_.get(); }
    int call() const { return call_.get(); }

private:
    const std::string socket_;
    pid_t pid_ = -1;
    std::unique_ptr<VhostUserConnection> connection_;
    UniqueFd kick_, call_;
};

uint64_t median(std::vector<uint64_t> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

double load() {
    double loads[1] = {0};
    return ::getloadavg(loads, 1) == 1 ? loads[0] : 0;
}

void throughput(const std::string& folder, const std::string& path, uint64_t sectors,
                int64_t duration_ns, std::string_view only) {
    auto memory = GuestMemory::create(kMemorySize).value();
    Driver driver(memory);
    const std::array<std::string, 2> engines{"io_uring", "threads"};
    for (const Workload& work : kWorkloads) {
        if (std::string_view(work.name).find(only) == std::string_view::npos) {
            continue;
        }
        std::vector<uint64_t> ours;
        std::map<std::string, std::vector<uint64_t>> peers;
        for (int run = 0; run < kRuns; ++run) {
            {
                const Ours device(memory, driver, path);
                ours.push_back(
                    driver.run(work, sectors, duration_ns, device.kick(), device.call()));
            }
            for (const std::string& aio : engines) {
                Peer peer(folder, path, aio);
                if (auto attached = peer.attach(memory, driver); !attached.ok()) {
                    fmt::print(stderr, "no figure of the peer: {}\n", attached.error().text());
                    continue;
                }
                peers[aio].push_back(
                    driver.run(work, sectors, duration_ns, peer.kick(), peer.call()));
            }
        }
        const double seconds = static_cast<double>(duration_ns) / kNanosPerSecond;
        const auto per_second = [&](uint64_t count) {
            return static_cast<double>(count) / seconds;
        };
        fmt::print("block {} depth={} kumoi={:.0f}/s", work.name, work.depth,
                   per_second(median(ours)));
        double best = 0;
        for (auto& [aio, counts] : peers) {
            best = std::max(best, per_second(median(counts)));
            fmt::print(" qemu_{}={:.0f}/s", aio, per_second(median(counts)));
        }
        fmt::print(" ratio={:.2f} load={:.1f}\n", best > 0 ? per_second(median(ours)) / best : 0,
                   load());
        std::fflush(stdout);
    }
}

void limiter(const std::string& path, uint64_t sectors) {
    auto memory = GuestMemory::create(kMemorySize).value();
    Driver driver(memory);
    const Workload work{"limited", kTypeIn, 4096, 32, true};
    const auto measure = [&](const char* name, const DiskLimits& limits, double wanted) {
        const Ours device(memory, driver, path, limits);
        const SystemClock clock;
        const int64_t start = clock.monotonic_ns();
        const uint64_t done =
            driver.run(work, sectors, 4 * kNanosPerSecond, device.kick(), device.call());
        const double seconds = static_cast<double>(clock.monotonic_ns() - start) / kNanosPerSecond;
        const double got = static_cast<double>(done) / seconds;
        fmt::print("limiter {} wanted={:.0f}/s got={:.1f}/s error={:.2f}% load={:.1f}\n", name,
                   wanted, got, 100 * std::abs(got - wanted) / wanted, load());
    };
    measure("iops", {.total_iops = {.average = 500}}, 500);
    measure("iops", {.total_iops = {.average = 5000}}, 5000);
    measure("bytes", {.read_bytes = {.average = 40 << 20}}, (40 << 20) / 4096.0);
}

int bench(int argc, char** argv) {
    const double seconds = argc > 1 ? std::atof(argv[1]) : 1.0;
    const uint64_t mib = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 256;
    std::string folder = "/var/tmp/kumoi-block-bench-XXXXXX";
    if (::mkdtemp(folder.data()) == nullptr) {
        return 1;
    }
    const std::string path = folder + "/disk.raw";
    {
        const UniqueFd file = open_file(path, O_RDWR | O_CREAT | O_TRUNC).value();
        const std::vector<std::byte> block(1u << 20, std::byte{0x5a});
        for (uint64_t i = 0; i < mib; ++i) {
            pwrite_all(file.get(), block, i << 20).value();
        }
    }
    throughput(folder, path, mib << 11, static_cast<int64_t>(seconds * kNanosPerSecond),
               argc > 3 ? argv[3] : "");
    limiter(path, mib << 11);
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
    return 0;
}

}  // namespace
}  // namespace kumoi::hypervisor

int main(int argc, char** argv) {
    return kumoi::hypervisor::bench(argc, argv);
}
