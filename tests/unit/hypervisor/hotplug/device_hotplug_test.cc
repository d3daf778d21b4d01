#include "hypervisor/hotplug/device_hotplug.h"

#include <gtest/gtest.h>

#include <cstring>

#include "hypervisor/board/hotplug_layout.h"
#include "tests/support/platform_fake.h"

namespace kumoi::hypervisor {
namespace {

class Part final : public PciDevice {
public:
    explicit Part(std::string name) : name_(std::move(name)) {}
    std::string name() const override { return name_; }
    uint32_t config_read(uint32_t offset, uint32_t width) override {
        return config_.read(offset, width);
    }
    void config_write(uint32_t offset, uint32_t width, uint32_t value) override {
        config_.write(offset, width, value);
    }
    void reset() override {}

private:
    std::string name_;
    PciConfigSpace config_{{.vendor = 0x1234, .device = 0x5678}};
};

class DeviceHotplugTest : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_TRUE(devices_.add({1, 0}, std::make_unique<Part>("board")).ok());
        ASSERT_TRUE(devices_.start().ok());
        ASSERT_TRUE(hotplug_.add({11, 0}, std::make_unique<Part>("disk0")).ok());
        acknowledge();
        events_.clear();
    }
    void acknowledge() { write(board::kPciHotplugInserted, ~0u); }
    void write(uint64_t offset, uint32_t value) {
        std::array<uint8_t, 4> data{};
        std::memcpy(data.data(), &value, 4);
        registers_.io_write(offset, data);
        loop_.run_ready();
    }
    void eject(unsigned slot) { write(board::kPciHotplugEject, 1u << slot); }
    DeviceHotplug::Answer answer() {
        return [this](const Result<Json>& result) { answers_.push_back(result); };
    }

    ManualClock clock_;
    EventLoop loop_{clock_};
    PlatformFake platform_;
    PciDevices devices_{platform_, {}};
    std::vector<ControlEvent> events_;
    std::vector<std::string> removed_;
    std::vector<Result<Json>> answers_;
    PciHotplug registers_{
        0x7fff'fff8,
        {.changed = [] {},
         .ejected =
             [this](uint32_t slots) { loop_.post([this, slots] { hotplug_.ejected(slots); }); }}};
    DeviceHotplug hotplug_{loop_,
                           devices_,
                           registers_,
                           {.event = [this](const ControlEvent& e) { events_.push_back(e); },
                            .removed = [this](const std::string& n) { removed_.push_back(n); },
                            .standstill = [](const auto& run) { return run(); }}};
};

TEST_F(DeviceHotplugTest, RemovalIsAnsweredWhenTheGuestHasLetGo) {
    hotplug_.remove("disk0", 1000, answer());
    EXPECT_TRUE(answers_.empty());
    EXPECT_TRUE(hotplug_.is_removing("disk0"));
    EXPECT_EQ(registers_.state().removing, 1u << 11);
    hotplug_.remove("disk0", 1000, answer());
    ASSERT_EQ(answers_.size(), 1u);
    EXPECT_EQ(answers_[0].error().code, ErrorCode::Conflict);
    eject(11);
    ASSERT_EQ(answers_.size(), 2u);
    EXPECT_TRUE(answers_[1].ok());
    EXPECT_EQ(devices_.at({11, 0}), nullptr);
    EXPECT_EQ(removed_, std::vector<std::string>{"disk0"});
    ASSERT_EQ(events_.size(), 1u);
    EXPECT_EQ(events_[0].name, "device_removed");
    EXPECT_TRUE(events_[0].data.bool_or("requested"));
    clock_.advance(2000 * kNanosPerMilli);
    loop_.run_ready();
    EXPECT_EQ(answers_.size(), 2u);  // no timeout afterwards
}

TEST_F(DeviceHotplugTest, AGuestThatDoesNotReleaseIsReportedAndMayStillDoItLater) {
    hotplug_.remove("disk0", 1000, answer());
    clock_.advance(1001 * kNanosPerMilli);
    loop_.run_ready();
    ASSERT_EQ(answers_.size(), 1u);
    EXPECT_EQ(answers_[0].error().code, ErrorCode::Timeout);
    EXPECT_NE(answers_[0].error().message.find("guest did not release"), std::string::npos);
    EXPECT_EQ(registers_.state().removing, 0u);
    EXPECT_NE(devices_.at({11, 0}), nullptr);
    eject(11);
    EXPECT_EQ(devices_.at({11, 0}), nullptr);
    EXPECT_EQ(events_.back().name, "device_removed");
    EXPECT_FALSE(events_.back().data.bool_or("requested", true));
    EXPECT_EQ(answers_.size(), 1u);
}

TEST_F(DeviceHotplugTest, AGuestEjectsOnlyWhatIsThere) {
    for (int i = 0; i < 100; ++i) {
        write(board::kPciHotplugEject, ~0u);
    }
    EXPECT_EQ(removed_.size(), 1u);
    EXPECT_NE(devices_.at({1, 0}), nullptr);
}

TEST_F(DeviceHotplugTest, PartsOfTheBoardStay) {
    hotplug_.remove("board", 1000, answer());
    hotplug_.remove("nobody", 1000, answer());
    ASSERT_EQ(answers_.size(), 2u);
    EXPECT_EQ(answers_[0].error().code, ErrorCode::Unsupported);
    EXPECT_EQ(answers_[1].error().code, ErrorCode::NotFound);
    EXPECT_FALSE(hotplug_.remove_now("board").ok());
}

TEST_F(DeviceHotplugTest, AResetCarriesOutWhatWasAskedFor) {
    hotplug_.remove("disk0", 1000, answer());
    hotplug_.reset();
    ASSERT_EQ(answers_.size(), 1u);
    EXPECT_TRUE(answers_[0].ok());
    EXPECT_EQ(devices_.at({11, 0}), nullptr);
}

TEST_F(DeviceHotplugTest, ForcedRemovalTakesItOutAtOnceAndTheSlotIsFreeAgain) {
    EXPECT_EQ(hotplug_.free_slot(11, 12)->slot, 12u);
    EXPECT_FALSE(hotplug_.free_slot(11, 11).ok());
    ASSERT_TRUE(hotplug_.remove_now("disk0").ok());
    EXPECT_EQ(hotplug_.free_slot(11, 12)->slot, 11u);
    ASSERT_TRUE(hotplug_.add({11, 0}, std::make_unique<Part>("disk0")).ok());
    EXPECT_EQ(registers_.state().inserted, 1u << 11);
}

}  // namespace
}  // namespace kumoi::hypervisor
