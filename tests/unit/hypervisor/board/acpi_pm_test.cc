#include "hypervisor/board/acpi_pm.h"

#include <cstring>

#include <gtest/gtest.h>

#include "hypervisor/board/legacy_ports.h"

namespace kumoi::hypervisor {
namespace {

class Line final : public IrqLine {
public:
    explicit Line(bool& level) : level_(level) {}
    void set_level(bool asserted) override { level_ = asserted; }

private:
    bool& level_;
};

class AcpiPmTest : public ::testing::Test {
protected:
    uint32_t in(uint64_t offset, size_t width) {
        uint8_t bytes[4] = {};
        pm.io_read(offset, {bytes, width});
        uint32_t value = 0;
        std::memcpy(&value, bytes, 4);
        return value;
    }
    void out(uint64_t offset, uint32_t value, size_t width) {
        uint8_t bytes[4];
        std::memcpy(bytes, &value, 4);
        pm.io_write(offset, {bytes, width});
    }
    bool sci = false;
    int resets = 0;
    int shutdowns = 0;
    ManualClock clock;
    AcpiPm pm{clock,
              std::make_unique<Line>(sci),
              {.reset = [this] { ++resets; }, .shutdown = [this] { ++shutdowns; }}};
};

TEST_F(AcpiPmTest, PowerButtonInterruptsOnlyWhenEnabled) {
    EXPECT_FALSE(pm.press_power_button());
    EXPECT_FALSE(sci);
    out(2, 0x0100, 2);  // the pending press is heard on enabling
    EXPECT_TRUE(sci);
    EXPECT_EQ(in(0, 2), 0x0100u);
    out(0, 0x0100, 2);
    EXPECT_FALSE(sci);
    EXPECT_TRUE(pm.press_power_button());
    EXPECT_TRUE(sci);
}

TEST_F(AcpiPmTest, EnableBitsOfEveryFixedEventReadBack) {
    out(2, 0xffff, 2);
    EXPECT_EQ(in(2, 2), 0x0721u);  // timer, global lock, power button, sleep button, RTC
    EXPECT_FALSE(sci);
}

TEST_F(AcpiPmTest, OnlyTheS5TypeWithTheEnableBitShutsDown) {
    out(4, 5u << 10, 2);
    EXPECT_EQ(shutdowns, 0);
    out(4, (3u << 10) | (1u << 13), 2);
    EXPECT_EQ(shutdowns, 0);
    out(4, (5u << 10) | (1u << 13), 2);
    EXPECT_EQ(shutdowns, 1);
    EXPECT_EQ(in(4, 2) & 1, 1u);           // SCI_EN
    EXPECT_EQ(in(4, 2) & (1u << 13), 0u);  // SLP_EN reads 0
}

TEST_F(AcpiPmTest, ResetRegisterTakesItsValueOnly) {
    out(12, 0x01, 1);
    EXPECT_EQ(resets, 0);
    out(12, 0x06, 1);
    EXPECT_EQ(resets, 1);
}

TEST_F(AcpiPmTest, TimerRunsAtItsFrequency) {
    EXPECT_EQ(in(8, 4), 0u);
    clock.advance(kNanosPerSecond);
    EXPECT_EQ(in(8, 4), 3'579'545u);
    clock.advance(10'000 * kNanosPerSecond);  // beyond 32 bits: wraps
    EXPECT_EQ(in(8, 4), static_cast<uint32_t>(uint64_t{10'001} * 3'579'545));
}

TEST_F(AcpiPmTest, SurvivesAnyOffsetAndWidth) {
    for (uint64_t offset = 0; offset < 20; ++offset) {
        for (const size_t width : {1u, 2u, 4u}) {
            out(offset, 0xffff'ffff, width);
            in(offset, width);
        }
    }
    pm.reset();
    EXPECT_FALSE(sci);
}

TEST(I8042, PulsesResetAndAnswersItsTests) {
    int resets = 0;
    I8042 keyboard([&] { ++resets; });
    const auto command = [&](uint8_t value) { keyboard.io_write(4, {&value, 1}); };
    const auto data = [&](uint8_t value) { keyboard.io_write(0, {&value, 1}); };
    const auto in = [&](uint64_t offset) {
        uint8_t value = 0;
        keyboard.io_read(offset, {&value, 1});
        return value;
    };
    command(0xaa);
    EXPECT_EQ(in(4) & 1, 1);
    EXPECT_EQ(in(0), 0x55);
    EXPECT_EQ(in(4) & 1, 0);
    command(0x60);
    data(0x47);
    command(0x20);
    EXPECT_EQ(in(0), 0x47);
    command(0xff);  // pulses nothing
    EXPECT_EQ(resets, 0);
    command(0xfe);
    EXPECT_EQ(resets, 1);
    command(0xd1);
    data(0x02);
    EXPECT_EQ(resets, 2);
    data(0x00);  // without the command it is for the keyboard
    EXPECT_EQ(resets, 2);
}

class LineFake final : public IrqLine {
public:
    explicit LineFake(int& rises) : rises_(rises) {}
    void set_level(bool asserted) override { rises_ += asserted ? 1 : 0; }

private:
    int& rises_;
};

TEST(I8042, CarriesAKeyboardsCodes) {
    int rises = 0;
    I8042 controller([] {});
    const auto command = [&](uint8_t value) { controller.io_write(4, {&value, 1}); };
    const auto data = [&](uint8_t value) { controller.io_write(0, {&value, 1}); };
    const auto in = [&](uint64_t offset) {
        uint8_t value = 0;
        controller.io_read(offset, {&value, 1});
        return value;
    };
    command(0xab);
    EXPECT_EQ(in(0), 0x01);  // nothing is plugged in
    controller.plug_keyboard(std::make_unique<LineFake>(rises));
    command(0xab);
    EXPECT_EQ(in(0), 0x00);
    command(0x60);
    data(0x61);  // translation and interrupts, as SeaBIOS wants them
    data(0xff);
    EXPECT_EQ(in(0), 0xfa);
    EXPECT_EQ(in(0), 0xaa);
    EXPECT_EQ(in(4) & 1, 0);
    EXPECT_TRUE(controller.ready());
    rises = 0;
    controller.key(30, true);  // KEY_A
    controller.key(30, false);
    controller.key(103, true);  // KEY_UP
    EXPECT_EQ(rises, 1);
    EXPECT_EQ(in(0), 0x1e);
    EXPECT_EQ(in(0), 0x9e);
    EXPECT_EQ(in(0), 0xe0);
    EXPECT_EQ(in(0), 0x48);
    EXPECT_EQ(in(4) & 1, 0);
    EXPECT_EQ(rises, 4);
    command(0xad);  // off: codes wait
    controller.key(30, true);
    EXPECT_EQ(in(4) & 1, 0);
    command(0xae);
    EXPECT_EQ(in(0), 0x1e);
    command(0xd2);
    data(0x77);
    EXPECT_EQ(in(0), 0x77);
}

TEST(Port92, ResetsOnTheRisingBitAndKeepsA20) {
    int resets = 0;
    Port92 port([&] { ++resets; });
    const uint8_t both = 0x03;
    port.io_write(0, {&both, 1});
    EXPECT_EQ(resets, 1);
    uint8_t value = 0;
    port.io_read(0, {&value, 1});
    EXPECT_EQ(value, 0x02);
}

TEST(DebugPort, CutsLinesAndBoundsThem) {
    std::vector<std::string> lines;
    DebugPort port("debugcon", 0xe9, [&](std::string_view line) { lines.emplace_back(line); });
    for (const char c : std::string("hi\n") + std::string(DebugPort::kLineMax + 5, 'x')) {
        const auto byte = static_cast<uint8_t>(c);
        port.io_write(0, {&byte, 1});
    }
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_EQ(lines[0], "hi");
    EXPECT_EQ(lines[1].size(), DebugPort::kLineMax);
    uint8_t value = 0;
    port.io_read(0, {&value, 1});
    EXPECT_EQ(value, 0xe9);
}

}  // namespace
}  // namespace kumoi::hypervisor
