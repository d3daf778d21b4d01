#include "hypervisor/virtio/input.h"

#include <gtest/gtest.h>
#include <linux/input-event-codes.h>

#include <array>
#include <cstring>

#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

struct Event {
    uint16_t type, code;
    uint32_t value;
    bool operator==(const Event&) const = default;
};

template <class Device>
std::vector<uint8_t> config(Device& device, uint8_t select, uint8_t subselect) {
    const std::array<uint8_t, 2> selection{select, subselect};
    device.write_config(0, selection);
    std::array<uint8_t, 136> all{};
    device.read_config(0, all);
    EXPECT_EQ(all[0], select);
    EXPECT_EQ(all[1], subselect);
    return {all.begin() + 8, all.begin() + 8 + all[2]};
}

class VirtioInputTest : public ::testing::Test {
protected:
    // The fake outlives what a test has on its stack.
    template <class Device>
    Device& make(const char* name) {
        devices_.push_back(std::make_unique<Device>(name));
        return static_cast<Device&>(*devices_.back());
    }
    void offer(int buffers) {
        for (int i = 0; i < buffers; ++i) {
            gpas_.push_back(queue_->allocate(8));
            queue_->add({{gpas_.back(), 8, true}});
        }
    }
    void begin(VirtioInput& device) {
        fake_ = std::make_unique<DeviceFake>(device, platform_.memory());
        queue_ = &fake_->add_queue(0, 16);
        status_ = &fake_->add_queue(1, 16);
        ASSERT_TRUE(fake_->start());
    }
    std::vector<Event> events() {
        fake_->kick(0);
        std::vector<Event> out;
        for (size_t i = taken_; i < queue_->used_index(); ++i) {
            EXPECT_EQ(queue_->used(i).length, 8u);
            Event event{};
            EXPECT_TRUE(
                platform_.memory().read(gpas_[i], std::as_writable_bytes(std::span(&event, 1))));
            out.push_back(event);
        }
        taken_ = queue_->used_index();
        return out;
    }

    PlatformFake platform_;
    std::vector<std::unique_ptr<VirtioInput>> devices_;
    std::unique_ptr<DeviceFake> fake_;
    QueueFake* queue_ = nullptr;
    QueueFake* status_ = nullptr;
    std::vector<uint64_t> gpas_;
    size_t taken_ = 0;
};

TEST_F(VirtioInputTest, KeyboardDescribesItself) {
    auto& keyboard = make<VirtioKeyboard>("keyboard0");
    const auto name = config(keyboard, 1, 0);
    EXPECT_EQ(std::string(name.begin(), name.end()), "kumoi keyboard");
    EXPECT_EQ(config(keyboard, 3, 0).size(), 8u);
    const auto keys = config(keyboard, 0x11, EV_KEY);
    ASSERT_GT(keys.size(), size_t{KEY_LEFTMETA / 8});
    EXPECT_NE(keys[KEY_A / 8] & 1 << KEY_A % 8, 0);
    EXPECT_TRUE(config(keyboard, 0x11, EV_ABS).empty());
    EXPECT_TRUE(config(keyboard, 0x77, 3).empty());
}

TEST_F(VirtioInputTest, TabletDescribesItsAxes) {
    auto& tablet = make<VirtioTablet>("tablet0");
    const auto axis = config(tablet, 0x12, ABS_Y);
    ASSERT_EQ(axis.size(), 20u);
    uint32_t max = 0;
    std::memcpy(&max, axis.data() + 4, 4);
    EXPECT_EQ(max, kPointerMax);
    EXPECT_TRUE(config(tablet, 0x12, 17).empty());
}

TEST_F(VirtioInputTest, KeysArriveInOrderWhenThereAreBuffers) {
    auto& keyboard = make<VirtioKeyboard>("keyboard0");
    EXPECT_FALSE(keyboard.ready());
    begin(keyboard);
    EXPECT_TRUE(keyboard.ready());
    offer(3);
    keyboard.key(KEY_A, true);
    keyboard.key(KEY_A, false);
    EXPECT_EQ(events(),
              (std::vector<Event>{{EV_KEY, KEY_A, 1}, {EV_SYN, 0, 0}, {EV_KEY, KEY_A, 0}}));
    offer(3);
    EXPECT_EQ(events(), (std::vector<Event>{{EV_SYN, 0, 0}}));
}

TEST_F(VirtioInputTest, TabletReportsWhatChanged) {
    auto& tablet = make<VirtioTablet>("tablet0");
    begin(tablet);
    offer(14);
    tablet.pointer({.x = 5, .y = 6, .left = true});
    tablet.pointer({.x = 5, .y = 7, .wheel = -1});
    EXPECT_EQ(events(), (std::vector<Event>{{EV_ABS, ABS_X, 5},
                                            {EV_ABS, ABS_Y, 6},
                                            {EV_KEY, BTN_LEFT, 1},
                                            {EV_SYN, 0, 0},
                                            {EV_ABS, ABS_Y, 7},
                                            {EV_KEY, BTN_LEFT, 0},
                                            {EV_REL, REL_WHEEL, ~0u},
                                            {EV_SYN, 0, 0}}));
    tablet.pointer({.x = 5, .y = 7});
    EXPECT_TRUE(events().empty());
}

TEST_F(VirtioInputTest, RestoredKeyboardLetsGoOfItsKeys) {
    auto& before = make<VirtioKeyboard>("keyboard0");
    begin(before);
    offer(3);
    before.key(KEY_A, true);
    EXPECT_EQ(events().size(), 2u);
    before.key(KEY_B, true);
    EXPECT_EQ(events().size(), 1u);  // the end of this report has not been read
    SectionWriter state("device", 1);
    before.save(state);
    auto& after = make<VirtioKeyboard>("keyboard0");
    auto reader = SectionReader::parse(state).value();
    ASSERT_TRUE(after.load(reader));
    fake_.reset();
    gpas_.clear();
    taken_ = 0;
    begin(after);
    offer(5);
    EXPECT_EQ(events(), (std::vector<Event>{{EV_SYN, 0, 0},
                                            {EV_KEY, KEY_A, 0},
                                            {EV_SYN, 0, 0},
                                            {EV_KEY, KEY_B, 0},
                                            {EV_SYN, 0, 0}}));
}

TEST_F(VirtioInputTest, WhatNobodyReadsIsBounded) {
    auto& keyboard = make<VirtioKeyboard>("keyboard0");
    begin(keyboard);
    for (size_t i = 0; i < 10 * VirtioInput::kReportsMax; ++i) {
        keyboard.key(KEY_A, true);
        keyboard.key(KEY_A, false);
    }
    const auto statistics = keyboard.statistics();
    EXPECT_EQ(statistics[0].name, "reports");
    EXPECT_LE(statistics[0].value, 2 * VirtioInput::kReportsMax);
    EXPECT_GT(statistics[1].value, 0u);
}

TEST_F(VirtioInputTest, MalformedChainsAreCountedAndPassedOver) {
    auto& keyboard = make<VirtioKeyboard>("keyboard0");
    begin(keyboard);
    const uint64_t small = queue_->allocate(4);
    gpas_.push_back(small);
    queue_->add({{small, 4, true}});
    offer(2);
    status_->add({{status_->allocate(8), 8, false}});
    status_->add({{status_->allocate(2), 2, false}});
    fake_->kick(1);
    keyboard.key(KEY_B, true);
    fake_->kick(0);
    EXPECT_EQ(queue_->used_index(), 3u);
    EXPECT_EQ(queue_->used(0).length, 0u);
    EXPECT_EQ(keyboard.statistics()[2].value, 1u);
    EXPECT_EQ(keyboard.statistics()[3].value, 2u);
}

}  // namespace
}  // namespace kumoi::hypervisor
