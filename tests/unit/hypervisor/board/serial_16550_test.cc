#include "hypervisor/board/serial_16550.h"

#include <gtest/gtest.h>

namespace kumoi::hypervisor {
namespace {

class Line final : public IrqLine {
public:
    explicit Line(bool& level) : level_(level) {}
    void set_level(bool asserted) override { level_ = asserted; }

private:
    bool& level_;
};

class SerialTest : public ::testing::Test {
protected:
    uint8_t in(uint64_t reg) {
        uint8_t value = 0;
        uart.io_read(reg, {&value, 1});
        return value;
    }
    void out(uint64_t reg, uint8_t value) { uart.io_write(reg, {&value, 1}); }
    void enable(uint8_t ier) {
        out(4, 0x08);  // OUT2
        out(1, ier);
    }
    bool level = false;
    std::string output;
    Serial16550 uart{std::make_unique<Line>(level), [this](std::string_view b) { output += b; }};
};

TEST_F(SerialTest, TransmitsAndStaysReady) {
    out(0, 'h');
    out(0, 'i');
    EXPECT_EQ(output, "hi");
    EXPECT_EQ(in(5) & 0x60, 0x60);
    EXPECT_EQ(uart.counters().transmitted.value(), 2u);
}

TEST_F(SerialTest, DivisorLatchHidesDataAndEnable) {
    out(3, 0x83);
    out(0, 0x01);
    out(1, 0x02);
    EXPECT_EQ(in(0), 0x01);
    EXPECT_EQ(in(1), 0x02);
    out(3, 0x03);
    EXPECT_EQ(output, "");
    EXPECT_EQ(in(1), 0x00);
}

TEST_F(SerialTest, TransmitEmptyInterruptsOnEnableAndClearsByIir) {
    enable(0x02);
    EXPECT_TRUE(level);
    EXPECT_EQ(in(2) & 0x0f, 0x02);
    EXPECT_FALSE(level);
    EXPECT_EQ(in(2) & 0x0f, 0x01);
    out(0, 'x');
    EXPECT_TRUE(level);
}

TEST_F(SerialTest, NoInterruptWithoutOut2) {
    out(1, 0x03);
    uart.receive("a");
    EXPECT_FALSE(level);
    out(4, 0x08);
    EXPECT_TRUE(level);
}

TEST_F(SerialTest, ReceivesInOrderAndDropsTheLineWhenEmpty) {
    enable(0x01);
    EXPECT_EQ(uart.receive("abc"), 3u);
    EXPECT_TRUE(level);
    EXPECT_EQ(in(2) & 0x0f, 0x04);
    EXPECT_EQ(in(5) & 0x01, 0x01);
    EXPECT_EQ(in(0), 'a');
    EXPECT_EQ(in(0), 'b');
    EXPECT_TRUE(level);
    EXPECT_EQ(in(0), 'c');
    EXPECT_FALSE(level);
    EXPECT_EQ(in(0), 0);
}

TEST_F(SerialTest, BelowTheFifoTriggerItReportsATimeout) {
    out(2, 0xc1);  // trigger at 14
    enable(0x01);
    uart.receive("a");
    EXPECT_EQ(in(2), 0xcc);
    uart.receive("0123456789abc");
    EXPECT_EQ(in(2), 0xc4);
}

TEST_F(SerialTest, BoundsItsBacklogAndCountsWhatIsLost) {
    const std::string burst(Serial16550::kBacklogMax + 10, 'x');
    EXPECT_EQ(uart.receive(burst), Serial16550::kBacklogMax);
    EXPECT_EQ(uart.receive("y"), 0u);
    EXPECT_EQ(uart.counters().receive_dropped.value(), 11u);
}

TEST_F(SerialTest, LoopbackReturnsBytesAndModemLines) {
    out(4, 0x10 | 0x0f);
    EXPECT_EQ(in(6) & 0xf0, 0xf0);
    out(0, 'z');
    EXPECT_EQ(output, "");
    EXPECT_EQ(in(0), 'z');
    for (int i = 0; i < 17; ++i) {
        out(0, 'o');
    }
    EXPECT_EQ(in(5) & 0x02, 0x02);  // overrun, cleared by reading
    EXPECT_EQ(in(5) & 0x02, 0x00);
}

TEST_F(SerialTest, SurvivesAnyOffsetAndWidth) {
    uint8_t bytes[8] = {};
    for (uint64_t offset = 0; offset < 16; ++offset) {
        for (size_t width = 1; width <= 8; width *= 2) {
            uart.io_write(offset, {bytes, width});
            uart.io_read(offset, {bytes, width});
        }
    }
    uart.reset();
    EXPECT_FALSE(level);
}

}  // namespace
}  // namespace kumoi::hypervisor
