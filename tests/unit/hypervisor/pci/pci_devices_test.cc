#include "hypervisor/pci/pci_devices.h"

#include <gtest/gtest.h>

#include <array>

#include "tests/support/platform_fake.h"

namespace kumoi::hypervisor {
namespace {

struct Log {
    int pauses = 0;
    int resumes = 0;
    int resets = 0;
    int destroyed = 0;
};

class Part final : public PciDevice, public IoDevice {
public:
    Part(std::string name, Log& log)
        : name_(std::move(name)), log_(log), config_({.vendor = 0x1234, .device = 0x5678}) {
        config_.add_bar(0, 0x1000, BarWidth::Memory32);
    }
    ~Part() override { ++log_.destroyed; }
    std::string name() const override { return name_; }
    uint32_t config_read(uint32_t offset, uint32_t width) override {
        return config_.read(offset, width);
    }
    void config_write(uint32_t offset, uint32_t width, uint32_t value) override {
        config_.write(offset, width, value);
    }
    void reset() override {
        ++log_.resets;
        config_.reset_command();
    }
    PciConfigSpace* config_space() override { return &config_; }
    IoDevice* bar(unsigned index) override { return index == 0 ? this : nullptr; }
    void pause() override { ++log_.pauses; }
    void resume() override { ++log_.resumes; }
    Json statistics_json() const override { return Json::object({{"parts", 7}}); }
    void io_read(uint64_t /*offset*/, std::span<uint8_t> data) override { data[0] = 0x5a; }
    void io_write(uint64_t /*offset*/, std::span<const uint8_t> /*data*/) override {}

private:
    std::string name_;
    Log& log_;
    PciConfigSpace config_;
};

class PciDevicesTest : public testing::Test {
protected:
    Result<std::unique_ptr<Part>> part(const std::string& name) {
        return std::make_unique<Part>(name, log_);
    }
    uint32_t ids(unsigned slot) { return devices_.root().config_read(slot, 0, 0, 4); }

    PlatformFake platform_;
    Log log_;
    PciDevices devices_{platform_, {}};
};

constexpr uint32_t kIds = 0x5678'1234;
constexpr uint32_t kNothing = 0xffff'ffff;

TEST_F(PciDevicesTest, GrowsAndShrinksWhileTheGuestRuns) {
    ASSERT_TRUE(devices_.add({3, 0}, part("nic0")).ok());
    ASSERT_TRUE(devices_.start().ok());
    EXPECT_EQ(ids(3), kIds);
    EXPECT_EQ(ids(11), kNothing);
    ASSERT_TRUE(devices_.add({11, 0}, part("disk0")).ok());
    EXPECT_EQ(ids(11), kIds);
    EXPECT_EQ(devices_.root().bar_address({11, 0}, 0), 0u);  // hot: the guest places it
    devices_.root().config_write(11, 0, pci::kBar0, 4, 0xd100'0000);
    devices_.root().config_write(11, 0, pci::kCommand, 2, pci::kCommandMemory);
    std::array<uint8_t, 4> data{};
    EXPECT_TRUE(platform_.mmio_bus().read(0xd100'0000, data));
    EXPECT_EQ(data[0], 0x5a);

    auto gone = devices_.remove({11, 0});
    ASSERT_TRUE(gone.ok());
    EXPECT_FALSE(platform_.mmio_bus().read(0xd100'0000, data));
    EXPECT_EQ(ids(11), kNothing);
    EXPECT_EQ(log_.destroyed, 0);
    gone->reset();
    EXPECT_EQ(log_.destroyed, 1);
    EXPECT_EQ(log_.resets, 1);
    ASSERT_TRUE(devices_.add({11, 0}, part("disk0")).ok());  // name and place are free again
}

TEST_F(PciDevicesTest, RefusesTakenPlacesAndNames) {
    ASSERT_TRUE(devices_.add({3, 0}, part("nic0")).ok());
    EXPECT_FALSE(devices_.add({3, 0}, part("nic1")).ok());
    const auto twice = devices_.add({4, 0}, part("nic0"));
    ASSERT_FALSE(twice.ok());
    EXPECT_NE(twice.error().message.find("nic0"), std::string::npos);
    EXPECT_FALSE(devices_.remove({5, 0}).ok());
    EXPECT_FALSE(devices_.remove({0, 0}).ok());  // the host bridge
    EXPECT_FALSE(
        devices_.add({5, 0}, Result<std::unique_ptr<Part>>(Error::invalid("no file"))).ok());
    EXPECT_EQ(devices_.size(), 1u);
    EXPECT_EQ(devices_.find("nic0"), (PciAddress{3, 0}));
    EXPECT_EQ(devices_.find("nic1"), std::nullopt);
    EXPECT_EQ(devices_.at({4, 0}), nullptr);
}

TEST_F(PciDevicesTest, PausesAndResumesEveryDeviceAlsoOneThatComesMeanwhile) {
    ASSERT_TRUE(devices_.add({3, 0}, part("nic0")).ok());
    devices_.pause();
    ASSERT_TRUE(devices_.add({4, 0}, part("nic1")).ok());
    EXPECT_EQ(log_.pauses, 2);
    ASSERT_TRUE(devices_.remove({4, 0}).ok());
    EXPECT_EQ(log_.resumes, 1);  // else it could not drain
    devices_.resume();
    EXPECT_EQ(log_.resumes, 2);
    EXPECT_EQ(devices_.statistics().dump(), R"({"nic0":{"parts":7}})");
}

}  // namespace
}  // namespace kumoi::hypervisor
