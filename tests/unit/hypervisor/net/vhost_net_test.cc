// The order and the content of what vhost-net is told, against a kernel that only writes it down:
// no machine of ours has the real one.
#include "hypervisor/net/vhost_net.h"

#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <map>
#include <mutex>

#include "hypervisor/hotplug/memory_watchers.h"
#include "hypervisor/virtio/device_runner.h"
#include "hypervisor/virtio/net.h"
#include "tests/support/net_backend_fake.h"
#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kModern = 1ull << 32 | 1ull << 29 | 1ull << 28 | 1ull << 15;

// Numbers of linux/vhost.h, written out anew.
const std::map<unsigned long, const char*> kNames = {
    {0x0000af01, "owner"},  {0x8008af00, "features?"}, {0x4008af00, "features"},
    {0x4008af03, "memory"}, {0x4008af10, "size"},      {0x4028af11, "addresses"},
    {0x4008af12, "base"},   {0xc008af12, "base?"},     {0x4008af20, "kick"},
    {0x4008af21, "call"},   {0x4008af30, "backend"},
};

class KernelFake final : public VhostKernel {
public:
    int call(int, unsigned long request, void* argument) override {
        const std::lock_guard lock(mutex_);
        const std::string name = kNames.at(request);
        if (name == "features?") {
            std::memcpy(argument, &features, sizeof features);
        }
        std::array<uint32_t, 2> words{};
        if (argument != nullptr) {
            std::memcpy(words.data(), argument, sizeof words);
        }
        const bool of_ring =
            name != "owner" && name != "features?" && name != "features" && name != "memory";
        std::string line = of_ring ? fmt::format("{} {}", name, words[0]) : name;
        if (name == "backend") {
            line += static_cast<int32_t>(words[1]) < 0 ? " off" : " on";
        }
        calls.push_back(line);
        if (line == fails) {
            return -EFAULT;
        }
        if (name == "base") {
            bases[words[0]] = words[1];
        } else if (name == "base?") {
            std::memcpy(static_cast<std::byte*>(argument) + 4, &bases[words[0]], 4);
        } else if (name == "kick") {
            kicks[words[0]] = static_cast<int>(words[1]);
        } else if (name == "call") {
            interrupts[words[0]] = static_cast<int>(words[1]);
        } else if (name == "memory") {
            const auto* table = static_cast<const uint64_t*>(argument);
            memory.assign(table, table + 1 + 4 * table[0]);
        } else if (name == "addresses") {
            const auto* fields = static_cast<const uint64_t*>(argument);
            addresses[words[0]] = {fields[1], fields[2], fields[3]};
        }
        return 0;
    }
    std::string told() {
        const std::lock_guard lock(mutex_);
        std::string all;
        for (const std::string& call : calls) {
            all += (all.empty() ? "" : ", ") + call;
        }
        calls.clear();
        return all;
    }

    uint64_t features = kModern;
    std::string fails;
    std::vector<std::string> calls;
    std::map<uint32_t, uint32_t> bases;
    std::map<uint32_t, int> kicks;
    std::map<uint32_t, int> interrupts;
    std::map<uint32_t, std::array<uint64_t, 3>> addresses;  // descriptors, used, available
    std::vector<uint64_t> memory;

private:
    std::mutex mutex_;
};

constexpr char kRings[] =
    "size 0, base 0, addresses 0, kick 0, call 0, size 1, base 1, addresses 1, kick 1, call 1";

std::unique_ptr<VhostNet> vhost_net(KernelFake& kernel) {
    return VhostNet::create(make_eventfd().value(), kernel).value();
}

TEST(VhostNet, IsOwnedAndMustBeModern) {
    KernelFake kernel;
    EXPECT_TRUE(VhostNet::create(make_eventfd().value(), kernel).ok());
    EXPECT_EQ(kernel.told(), "owner, features?");
    kernel.features = 1ull << 29;
    const auto old = VhostNet::create(make_eventfd().value(), kernel);
    EXPECT_EQ(old.error().code, ErrorCode::Unsupported);
    kernel.fails = "owner";
    EXPECT_FALSE(VhostNet::create(make_eventfd().value(), kernel).ok());
}

TEST(VhostNet, RingsGoOverAndComeBack) {
    KernelFake kernel;
    auto vhost = vhost_net(kernel);
    kernel.told();
    std::array<std::byte, 64> bytes{};
    const VhostNet::Ring receive{256, 7, bytes.data(), bytes.data() + 16, bytes.data() + 32,
                                 10,  11};
    const VhostNet::Ring transmit{128, 9, bytes.data() + 1, nullptr, nullptr, 12, 13};
    ASSERT_TRUE(vhost->start(kModern | 1ull << 5, receive, transmit, 42).ok());
    EXPECT_EQ(kernel.told(), std::string("features, ") + kRings + ", backend 0 on, backend 1 on");
    EXPECT_EQ(kernel.addresses[0][0], reinterpret_cast<uintptr_t>(bytes.data()));
    EXPECT_EQ(kernel.addresses[0][1], reinterpret_cast<uintptr_t>(bytes.data() + 32));
    EXPECT_EQ(kernel.addresses[0][2], reinterpret_cast<uintptr_t>(bytes.data() + 16));
    EXPECT_EQ(kernel.kicks[1], 12);
    EXPECT_EQ(kernel.interrupts[0], 11);
    kernel.bases[0] = 65535;
    kernel.bases[1] = 3;
    const auto positions = vhost->stop().value();
    EXPECT_EQ(positions.receive, 65535u);
    EXPECT_EQ(positions.transmit, 3u);
    EXPECT_EQ(kernel.told(), "backend 0 off, backend 1 off, base? 0, base? 1");
    EXPECT_FALSE(vhost->running());
}

TEST(VhostNet, ARefusalLeavesNoRingBehind) {
    for (const char* call : {"features", "addresses 1", "backend 0 on", "backend 1 on"}) {
        KernelFake kernel;
        auto vhost = vhost_net(kernel);
        kernel.told();
        kernel.fails = call;
        const VhostNet::Ring ring{256, 0, nullptr, nullptr, nullptr, 1, 2};
        EXPECT_FALSE(vhost->start(kModern, ring, ring, 42).ok()) << call;
        EXPECT_FALSE(vhost->running());
        const std::string told = kernel.told();
        const bool had_one = std::string_view(call).starts_with("backend");
        EXPECT_EQ(told.find("backend 0 off, backend 1 off") != std::string::npos, had_one) << told;
    }
    KernelFake kernel;
    kernel.features = 1ull << 32 | 1ull << 15;
    auto vhost = vhost_net(kernel);
    EXPECT_EQ(vhost->start(kModern, {}, {}, 42).error().code, ErrorCode::Unsupported);
}

// A whole card on its real threads.
class VhostCard : public testing::Test, private RunnerEvents {
protected:
    void start(bool paused = false) {
        std::vector<std::unique_ptr<VhostNet>> vhost;
        vhost.push_back(vhost_net(kernel_));
        kernel_.told();
        backend_->vhost = 42;
        net_ = std::make_unique<VirtioNet>(VirtioNet::Options{.mac = {2, 0, 0, 1, 2, 3}},
                                           backends_of({backend_}), std::move(vhost));
        runner_ = DeviceRunner::create(*net_, platform_.memory(), *this).value();
        if (paused) {
            runner_->pause();
        }
        ASSERT_TRUE(runner_
                        ->start({receive_.config(), transmit_.config()},
                                virtio::kFeatureVersion1 | 1ull << 15)
                        .ok());
    }
    uint64_t statistic(const std::string& name) const {
        for (const Statistic& statistic : net_->statistics()) {
            if (statistic.name == name) {
                return statistic.value;
            }
        }
        return ~uint64_t{0};
    }
    void queue_interrupt(uint16_t index) override { interrupts_[index].fetch_add(1); }
    void config_interrupt() override {}
    void device_broken(std::string_view reason) override { broken_ = std::string(reason); }

    PlatformFake platform_;
    KernelFake kernel_;
    BackendInMemory* backend_ = new BackendInMemory;
    QueueFake receive_{platform_.memory(), 0, 0x100000, 64};
    QueueFake transmit_{platform_.memory(), 1, 0x200000, 64};
    std::unique_ptr<VirtioNet> net_;
    std::unique_ptr<DeviceRunner> runner_;
    std::array<std::atomic<int>, 3> interrupts_{};
    std::string broken_;
};

TEST_F(VhostCard, TheKernelHasTheRingsUntilAPause) {
    start();
    EXPECT_EQ(kernel_.told(),
              std::string("memory, features, ") + kRings + ", backend 0 on, backend 1 on");
    ASSERT_EQ(kernel_.memory[0], platform_.memory().regions().size());
    EXPECT_EQ(kernel_.memory[3], reinterpret_cast<uintptr_t>(platform_.memory().regions()[0].host));
    EXPECT_EQ(kernel_.kicks[0], runner_->doorbell(0));
    EXPECT_EQ(kernel_.kicks[1], runner_->doorbell(1));
    EXPECT_EQ(statistic("vhost"), 1u);
    EXPECT_FALSE(net_->set_limits({.inbound = {}, .outbound = {.average = 1000}}, 0).ok());

    // Nobody here takes a turn: what the driver rings stays for the kernel.
    transmit_.add({{transmit_.allocate(100), 100, false}});
    runner_->ring(1);
    kernel_.bases = {{0, 5}, {1, 6}};
    runner_->pause();
    EXPECT_EQ(kernel_.told(), "backend 0 off, backend 1 off, base? 0, base? 1");
    EXPECT_TRUE(backend_->sent.empty());
    EXPECT_EQ(transmit_.used_index(), 0u);
    const auto positions = runner_->positions();
    EXPECT_EQ(positions.at(0).next_available, 5u);
    EXPECT_EQ(positions.at(1).next_available, 6u);
    EXPECT_EQ(positions.at(1).next_used, 6u);
    runner_->resume();
    EXPECT_EQ(kernel_.bases[0], 5u);
    EXPECT_EQ(kernel_.bases[1], 6u);
    EXPECT_EQ(statistic("vhost"), 1u);
    runner_->stop();
    EXPECT_NE(kernel_.told().find("backend 1 off"), std::string::npos);
    EXPECT_EQ(statistic("vhost"), 0u);
}

// The kernel's writes would not be marked for a migration: we serve the card as long as it lasts.
TEST_F(VhostCard, IsServedHereWhileWritesAreMarked) {
    start();
    kernel_.told();
    ASSERT_TRUE(platform_.memory().start_marking().ok());
    runner_->pause();
    runner_->resume();
    EXPECT_EQ(statistic("vhost"), 0u);
    EXPECT_EQ(kernel_.told(), "backend 0 off, backend 1 off, base? 0, base? 1");
    platform_.memory().stop_marking();
    runner_->pause();
    runner_->resume();
    EXPECT_EQ(statistic("vhost"), 1u);
    runner_->stop();
}

TEST_F(VhostCard, ARestoredCardIsHandedOverWhenItGoesOn) {
    start(true);
    EXPECT_EQ(kernel_.told(), "");
    runner_->resume();
    EXPECT_NE(kernel_.told().find("backend 1 on"), std::string::npos);
}

TEST_F(VhostCard, InterruptsOfTheKernelReachTheDriver) {
    start();
    const uint64_t one = 1;
    ASSERT_EQ(::write(kernel_.interrupts[1], &one, sizeof one), 8);
    runner_->pause();  // the I/O thread takes its turn, and whoever rings last is heard
    EXPECT_GE(interrupts_[1].load(), 1);
}

TEST_F(VhostCard, WhatTheKernelRefusesIsServedHere) {
    kernel_.fails = "backend 1 on";
    const uint64_t gpa = transmit_.allocate(112);
    transmit_.add({{gpa, 112, false}});
    start();
    runner_->pause();
    EXPECT_EQ(statistic("vhost"), 0u);
    EXPECT_EQ(statistic("vhost_refused"), 1u);
    runner_->resume();
    runner_->stop();
    EXPECT_EQ(transmit_.used_index(), 1u);
    EXPECT_EQ(backend_->sent.size(), 1u);
    EXPECT_EQ(broken_, "");
}

TEST_F(VhostCard, RingsThatTheKernelDoesNotGiveBackBreakTheCard) {
    start();
    kernel_.fails = "base? 1";
    runner_->pause();
    EXPECT_NE(broken_.find("where a ring stands"), std::string::npos) << broken_;
}

TEST_F(VhostCard, MemoryThatComesIsTold) {
    start();
    MemoryWatchers watchers;
    watchers.add(net_->vhost());
    std::vector<MemoryRegion> regions = platform_.memory().regions();
    regions.push_back({.gpa = 1ull << 40, .size = 1 << 21});
    ASSERT_TRUE(watchers.tell(regions).ok());
    EXPECT_EQ(kernel_.memory[0], regions.size());
    runner_->stop();
    runner_.reset();
    net_.reset();
    kernel_.told();
    ASSERT_TRUE(watchers.tell(regions).ok());
    EXPECT_EQ(kernel_.told(), "");
}

}  // namespace
}  // namespace kumoi::hypervisor
