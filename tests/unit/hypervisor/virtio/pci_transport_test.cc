#include "hypervisor/virtio/pci_transport.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>

#include "hypervisor/pci/pci_root.h"
#include "hypervisor/virtio/rng.h"
#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kMessageAddress = 0xfee0'0000;
constexpr int64_t kPatienceMs = 10'000;

// A driver that finds everything through the PCI capabilities, like a guest.
class TransportTest : public testing::Test {
protected:
    void SetUp() override {
        auto made = VirtioPciDevice::create(
            platform_, std::make_unique<VirtioRng>("rng0", random_),
            {.intx_gsi = 11, .on_broken = [this](const std::string&, const std::string& reason) {
                 const std::lock_guard lock(mutex_);
                 reasons_.push_back(reason);
             }});
        device_ = std::move(made).value();
        root_ = std::make_unique<PciRoot>(platform_, PciRootConfig{});
        ASSERT_TRUE(root_->add({1}, *device_).ok());
        ASSERT_TRUE(root_->assign_bars().ok());
        bar_ = root_->bar_address({1}, 0);
        ASSERT_NE(bar_, 0u);
    }
    void TearDown() override {
        root_.reset();
        device_.reset();
    }
    uint32_t config(uint32_t offset, uint32_t width) {
        return root_->config_read(1, 0, offset, width);
    }
    // Offset of the capability with this cfg_type (0: the MSI-X one).
    uint32_t capability(uint8_t type) {
        uint32_t at = config(pci::kCapabilities, 1);
        while (at != 0) {
            const uint32_t id = config(at, 1);
            if ((type == 0 && id == pci::kCapabilityMsix) ||
                (id == pci::kCapabilityVendor && config(at + 3, 1) == type)) {
                return at;
            }
            at = config(at + 1, 1);
        }
        return 0;
    }
    template <class T>
    T read(uint64_t offset) {
        uint8_t data[sizeof(T)];
        platform_.mmio_bus().read(bar_ + offset, data);
        T value;
        std::memcpy(&value, data, sizeof(T));
        return value;
    }
    template <class T>
    void write(uint64_t offset, T value) {
        uint8_t data[sizeof(T)];
        std::memcpy(data, &value, sizeof(T));
        platform_.mmio_bus().write(bar_ + offset, data);
    }
    void enable_msix() {
        root_->config_write(1, 0, capability(0) + 2, 2, 0x8000);
        for (uint32_t vector = 0; vector < 2; ++vector) {
            const uint64_t entry = VirtioPciDevice::kMsixTableOffset + 16u * vector;
            write<uint64_t>(entry, kMessageAddress);
            write<uint32_t>(entry + 8, 0x40 + vector);
            write<uint32_t>(entry + 12, 0);
        }
        write<uint16_t>(16, 0);  // configuration changes
        write<uint16_t>(22, 0);
        write<uint16_t>(26, 1);  // queue 0
    }
    void bring_up(uint64_t features = virtio::kFeatureVersion1) {
        write<uint8_t>(20, 0);
        write<uint8_t>(20, 3);
        for (uint32_t half = 0; half < 2; ++half) {
            write<uint32_t>(8, half);
            write<uint32_t>(12, static_cast<uint32_t>(features >> (32 * half)));
        }
        write<uint8_t>(20, 11);
        ASSERT_EQ(read<uint8_t>(20), 11);
        write<uint16_t>(22, 0);
        write<uint16_t>(24, driver_->size());
        write<uint64_t>(32, driver_->config().descriptor_gpa);
        write<uint64_t>(40, driver_->config().available_gpa);
        write<uint64_t>(48, driver_->config().used_gpa);
        write<uint16_t>(28, 1);
        write<uint8_t>(20, 15);
    }
    void notify() { write<uint16_t>(VirtioPciDevice::kNotifyOffset, 0); }
    // The device works on its own thread: wait until it has done what we look for.
    template <class Condition>
    bool eventually(const Condition& condition) {
        const SystemClock clock;
        const int64_t deadline = clock.monotonic_ns() + kPatienceMs * kNanosPerMilli;
        while (!condition()) {
            if (clock.monotonic_ns() > deadline) {
                return false;
            }
            std::this_thread::yield();
        }
        return true;
    }
    uint16_t used_index() { return driver_->used_index(); }
    uint64_t add_request() {
        const uint64_t gpa = driver_->allocate(32);
        driver_->add({{gpa, 32, true}});
        return gpa;
    }
    uint64_t statistic(const std::string& name) {
        for (const Statistic& each : device_->statistics()) {
            if (each.name == name) {
                return each.value;
            }
        }
        return ~uint64_t{0};
    }

    PlatformFake platform_;
    SeededRandom random_{1};
    std::unique_ptr<QueueFake> driver_ =
        std::make_unique<QueueFake>(platform_.memory(), uint16_t{0}, 0x100000, uint16_t{16});
    std::unique_ptr<VirtioPciDevice> device_;
    std::unique_ptr<PciRoot> root_;
    uint64_t bar_ = 0;
    std::mutex mutex_;
    std::vector<std::string> reasons_;
};

TEST_F(TransportTest, IsFoundByItsIdsAndCapabilities) {
    EXPECT_EQ(config(0, 4), 0x1044'1af4u);
    EXPECT_EQ(config(8, 1), 1u);
    EXPECT_EQ(config(0x3c, 2), 0x010bu);  // INTA on line 11
    for (const uint8_t type : {1, 2, 3, 4, 5}) {
        const uint32_t at = capability(type);
        ASSERT_NE(at, 0u) << int{type};
        EXPECT_EQ(at % 4, 0u);
        EXPECT_EQ(config(at + 4, 1), 0u);  // BAR
    }
    EXPECT_EQ(config(capability(2) + 8, 4), VirtioPciDevice::kNotifyOffset);
    EXPECT_EQ(config(capability(2) + 16, 4), VirtioPciDevice::kNotifyMultiplier);
    EXPECT_EQ(config(capability(1) + 12, 4), CommonConfig::kSize);
    EXPECT_EQ(config(capability(0) + 2, 2), 1u);  // two vectors
}

// A guest may put windows of two devices onto each other: the second has no doorbell of its own,
// and nothing is taken away that belongs to the first.
TEST_F(TransportTest, ADoorbellThatWasRefusedIsNotTakenAway) {
    constexpr uint64_t kTaken = 0xd800'0000;
    ASSERT_TRUE(platform_.add_doorbell(kTaken + 0x3000, 77).ok());
    const uint64_t before = ReportLimit::suppressed_in_all();
    for (int i = 0; i < 100; ++i) {
        root_->config_write(1, 0, pci::kBar0, 4, kTaken);
        EXPECT_TRUE(platform_.doorbell_addresses().contains(kTaken + 0x3000));
        root_->config_write(1, 0, pci::kBar0, 4, kTaken + 0x10'0000);
        EXPECT_TRUE(platform_.doorbell_addresses().contains(kTaken + 0x10'3000));
    }
    EXPECT_EQ(platform_.wrong_removals, 0);
    EXPECT_EQ(platform_.doorbell_addresses().size(), 2u);
    EXPECT_EQ(ReportLimit::suppressed_in_all() - before, 90u);  // of 100 refusals ten were told
}

TEST_F(TransportTest, DoorbellsFollowTheBar) {
    EXPECT_EQ(platform_.doorbell_addresses(), std::set<uint64_t>{bar_ + 0x3000});
    root_->config_write(1, 0, 0x10, 4, 0xd900'0000);
    EXPECT_EQ(platform_.doorbell_addresses(), std::set<uint64_t>{0xd900'3000});
    root_->config_write(1, 0, 0x04, 2, 0);
    EXPECT_TRUE(platform_.doorbell_addresses().empty());
}

TEST_F(TransportTest, ServesRequestsAndInterruptsByMsix) {
    bring_up();
    enable_msix();
    const uint64_t gpa = add_request();
    notify();
    ASSERT_TRUE(eventually([&] { return used_index() == 1; }));
    EXPECT_TRUE(eventually([&] { return platform_.interrupt_count(kMessageAddress, 0x41) >= 1; }));
    EXPECT_NE(driver_->load<uint64_t>(gpa), 0u);
    EXPECT_FALSE(platform_.line_level(11));
    EXPECT_EQ(read<uint8_t>(VirtioPciDevice::kIsrOffset), 0u);
}

TEST_F(TransportTest, WithoutMsixTheLineIsRaisedUntilIsrIsRead) {
    bring_up();
    add_request();
    notify();
    ASSERT_TRUE(eventually([&] { return platform_.line_level(11); }));
    EXPECT_EQ(read<uint8_t>(VirtioPciDevice::kIsrOffset), 1u);
    EXPECT_FALSE(platform_.line_level(11));
    EXPECT_EQ(read<uint8_t>(VirtioPciDevice::kIsrOffset), 0u);
}

TEST_F(TransportTest, IntxDisableKeepsTheLineDown) {
    root_->config_write(1, 0, 0x04, 2, pci::kCommandMemory | pci::kCommandIntxDisable);
    bring_up();
    add_request();
    notify();
    ASSERT_TRUE(eventually([&] { return statistic("interrupts") >= 1; }));
    EXPECT_FALSE(platform_.line_level(11));
    root_->config_write(1, 0, 0x04, 2, pci::kCommandMemory);
    EXPECT_TRUE(platform_.line_level(11));  // ISR still waits to be read
}

TEST_F(TransportTest, BuffersMadeAvailableBeforeDriverOkAreServed) {
    add_request();
    bring_up();
    EXPECT_TRUE(eventually([&] { return used_index() == 1; }));
}

TEST_F(TransportTest, WrongRingAddressesAskForAReset) {
    driver_ = std::make_unique<QueueFake>(platform_.memory(), uint16_t{0}, uint64_t{0x100008},
                                          uint16_t{16});
    bring_up();
    EXPECT_EQ(read<uint8_t>(20), 15 | 64);
    EXPECT_TRUE(device_->is_broken());
    EXPECT_EQ(reasons_.size(), 1u);
    driver_ = std::make_unique<QueueFake>(platform_.memory(), uint16_t{0}, uint64_t{0x200000},
                                          uint16_t{16});
    bring_up();  // resets first
    EXPECT_EQ(read<uint8_t>(20), 15);
    add_request();
    notify();
    EXPECT_TRUE(eventually([&] { return used_index() == 1; }));
}

TEST_F(TransportTest, ABrokenRingSetsNeedsResetInterruptsAndReportsOnce) {
    bring_up();
    enable_msix();
    const uint8_t generation = read<uint8_t>(21);
    driver_->set_available_index(100);
    notify();
    ASSERT_TRUE(eventually([&] { return device_->is_broken(); }));
    ASSERT_TRUE(eventually([&] { return platform_.interrupt_count(kMessageAddress, 0x40) == 1; }));
    notify();
    EXPECT_EQ(read<uint8_t>(20), 15 | 64);
    EXPECT_NE(read<uint8_t>(21), generation);
    EXPECT_EQ(statistic("ring_breaks"), 1u);
    device_->pause();  // the I/O thread has reported by now
    device_->resume();
    const std::lock_guard lock(mutex_);
    ASSERT_EQ(reasons_.size(), 1u);
    EXPECT_NE(reasons_[0].find("queue 0"), std::string::npos);
}

TEST_F(TransportTest, ResetStopsTheDeviceAndItComesUpAgain) {
    for (int round = 0; round < 3; ++round) {
        driver_ = std::make_unique<QueueFake>(platform_.memory(), uint16_t{0},
                                              0x100000u * (1 + static_cast<uint64_t>(round)),
                                              uint16_t{16});
        bring_up();
        add_request();
        notify();
        ASSERT_TRUE(eventually([&] { return used_index() == 1; }));
    }
    write<uint8_t>(20, 0);
    EXPECT_EQ(read<uint8_t>(20), 0);
    add_request();
    notify();
    EXPECT_EQ(used_index(), 1u);  // nobody is there
}

TEST_F(TransportTest, PausedDevicesTouchNothingAndResumeCatchesUp) {
    bring_up();
    enable_msix();
    device_->pause();
    add_request();
    notify();
    EXPECT_EQ(used_index(), 0u);
    const uint64_t before = platform_.interrupt_count();
    device_->resume();
    EXPECT_TRUE(eventually([&] { return used_index() == 1; }));
    EXPECT_GT(platform_.interrupt_count(), before);
}

TEST_F(TransportTest, ADriverThatGetsReadyDuringAPauseIsServedAfterIt) {
    device_->pause();
    add_request();
    bring_up();
    EXPECT_EQ(used_index(), 0u);
    device_->resume();
    EXPECT_TRUE(eventually([&] { return used_index() == 1; }));
}

TEST_F(TransportTest, MachineResetForgetsTheDriver) {
    bring_up();
    enable_msix();
    ASSERT_TRUE(root_->reset().ok());
    EXPECT_EQ(root_->bar_address({1}, 0), bar_);
    EXPECT_EQ(read<uint8_t>(20), 0);
    EXPECT_EQ(config(capability(0) + 2, 2), 1u);
    bring_up();
    add_request();
    notify();
    EXPECT_TRUE(eventually([&] { return used_index() == 1; }));
}

TEST_F(TransportTest, TheConfigurationWindowReachesTheRegisters) {
    const uint32_t window = capability(5);
    root_->config_write(1, 0, window + 4, 1, 0);   // BAR 0
    root_->config_write(1, 0, window + 8, 4, 20);  // device status
    root_->config_write(1, 0, window + 12, 4, 1);
    root_->config_write(1, 0, window + 16, 4, 3);
    EXPECT_EQ(read<uint8_t>(20), 3);
    EXPECT_EQ(config(window + 16, 4) & 0xff, 3u);
    root_->config_write(1, 0, window + 8, 4, 18);
    root_->config_write(1, 0, window + 12, 4, 2);
    EXPECT_EQ(config(window + 16, 2), 1u);  // one queue
}

TEST_F(TransportTest, TheConfigurationWindowStaysInsideTheBar) {
    const uint32_t window = capability(5);
    for (const uint32_t bar : {0u, 1u, 5u, 0xffu}) {
        for (const uint32_t offset : {0x7fffu, 0x8000u, 0xffff'ffffu, 0xffff'fffcu}) {
            for (const uint32_t length : {0u, 3u, 4u, 8u, 0xffff'ffffu}) {
                root_->config_write(1, 0, window + 4, 1, bar);
                root_->config_write(1, 0, window + 8, 4, offset);
                root_->config_write(1, 0, window + 12, 4, length);
                root_->config_write(1, 0, window + 16, 4, 0xffff'ffff);
                config(window + 16, 4);
                config(window + 19, 4);
            }
        }
    }
    EXPECT_EQ(read<uint8_t>(20), 0);
}

TEST_F(TransportTest, EveryOffsetAndWidthOfTheBarIsSafe) {
    bring_up();
    for (uint64_t offset = 0; offset < VirtioPciDevice::kBarSize; offset += 3) {
        read<uint8_t>(offset);
        read<uint16_t>(offset);
        read<uint32_t>(offset);
        read<uint64_t>(offset);
        write<uint32_t>(offset, 0xa5a5'a5a5);
        write<uint64_t>(offset, ~uint64_t{0});
    }
    EXPECT_EQ(read<uint8_t>(20), 15);
}

// Several vCPUs at once: registers, resets, notifications, while the machine pauses and resumes.
TEST_F(TransportTest, ConcurrentAccessesAreSafe) {
    std::atomic<bool> stop{false};
    std::thread prober([&] {
        while (!stop.load()) {
            read<uint8_t>(20);
            notify();
            write<uint16_t>(26, 1);
            read<uint8_t>(VirtioPciDevice::kIsrOffset);
        }
    });
    std::thread pauser([&] {
        while (!stop.load()) {
            device_->pause();
            device_->resume();
            device_->statistics();
        }
    });
    for (int round = 0; round < 50; ++round) {
        bring_up();
        enable_msix();
        notify();
    }
    stop = true;
    prober.join();
    pauser.join();
    EXPECT_FALSE(device_->is_broken());
}

TEST_F(TransportTest, StateMovesToAFreshDeviceThatGoesOnWhereTheOldOneStood) {
    bring_up();
    enable_msix();
    add_request();
    notify();
    ASSERT_TRUE(eventually([this] { return used_index() == 1; }));
    device_->pause();
    add_request();                                          // the driver is ahead of the device
    root_->config_write(1, 0, pci::kBar0, 4, 0xd800'0000);  // and has moved its BAR
    SectionWriter saved("pci", 1);
    root_->save(saved);
    TearDown();
    SetUp();
    device_->pause();
    SectionReader reader = SectionReader::parse(saved).value();
    const auto reasons = root_->check(reader);
    ASSERT_TRUE(reasons.ok());
    EXPECT_TRUE(reasons->empty());
    const auto loaded = root_->load(reader);
    bar_ = root_->bar_address({1, 0}, 0);
    EXPECT_EQ(bar_, 0xd800'0000u);
    ASSERT_TRUE(loaded.ok()) << loaded.error().text();
    ASSERT_TRUE(reader.finish().ok());
    EXPECT_EQ(read<uint8_t>(20), 15);
    EXPECT_EQ(used_index(), 1);  // nothing moves before resume()
    const uint64_t before = platform_.interrupt_count(kMessageAddress, 0x41);
    device_->resume();
    EXPECT_TRUE(eventually([this] { return used_index() == 2; }));
    add_request();
    notify();
    EXPECT_TRUE(eventually([this] { return used_index() == 3; }));
    EXPECT_TRUE(
        eventually([&] { return platform_.interrupt_count(kMessageAddress, 0x41) > before; }));
}

TEST_F(TransportTest, StateOfOtherFunctionsIsRefusedWithAllReasons) {
    device_->pause();
    SectionWriter saved("pci", 1);
    root_->save(saved);
    PlatformFake other;
    auto device = VirtioPciDevice::create(other, std::make_unique<VirtioRng>("rng1", random_));
    PciRoot root(other, PciRootConfig{});
    ASSERT_TRUE(root.add({2, 0}, **device).ok());
    SectionReader reader = SectionReader::parse(saved).value();
    const auto reasons = root.check(reader);
    ASSERT_TRUE(reasons.ok());
    ASSERT_EQ(reasons->size(), 2u);
    EXPECT_EQ((*reasons)[0],
              "the guest has device rng0 at PCI 01.0, this machine has nothing there");
    EXPECT_FALSE(root.load(reader).ok());
}

TEST_F(TransportTest, HostileStateIsRefused) {
    bring_up();
    device_->pause();
    SectionWriter saved("rng0", 1);
    root_->save(saved);
    const std::vector<std::byte> body(saved.body().begin(), saved.body().end());
    size_t refused = 0;
    for (size_t at = 0; at < body.size(); ++at) {  // every byte turned over, one at a time
        TearDown();
        SetUp();
        device_->pause();
        std::vector<std::byte> hostile = body;
        hostile[at] ^= std::byte{0xff};
        auto reader = SectionReader::parse("rng0", 1, hostile);
        if (!reader || !root_->load(*reader) || !reader->finish()) {
            ++refused;
        }
        device_->resume();
    }
    EXPECT_GT(refused, body.size() / 2);
}

}  // namespace
}  // namespace kumoi::hypervisor
