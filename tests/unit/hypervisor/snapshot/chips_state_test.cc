// Every chip of the board: what it was before save() it is after load() on a fresh one.
#include <gtest/gtest.h>

#include "hypervisor/board/acpi_pm.h"
#include "hypervisor/board/cmos_rtc.h"
#include "hypervisor/board/legacy_ports.h"
#include "hypervisor/board/serial_16550.h"
#include "hypervisor/pci/msix.h"
#include "hypervisor/snapshot/section.h"
#include "tests/support/platform_fake.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

uint8_t in8(IoDevice& device, uint64_t offset) {
    uint8_t value = 0;
    device.io_read(offset, {&value, 1});
    return value;
}

void out8(IoDevice& device, uint64_t offset, uint8_t value) {
    device.io_write(offset, {&value, 1});
}

uint32_t in32(IoDevice& device, uint64_t offset) {
    uint8_t bytes[4];
    device.io_read(offset, bytes);
    return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | static_cast<uint32_t>(bytes[3]) << 24;
}

void move_state(const Snapshottable& from, Snapshottable& to) {
    EXPECT_EQ(from.section_name(), to.section_name());
    SectionWriter writer(from.section_name(), from.section_version());
    from.save(writer);
    SectionReader reader = SectionReader::parse(writer).value();
    const auto loaded = to.load(reader);
    EXPECT_TRUE(loaded.ok()) << loaded.error().text();
    EXPECT_TRUE(reader.finish().ok());
}

// Bytes cut off or turned over must be refused or give a chip that still works.
void load_damaged(const Snapshottable& from, Snapshottable& to) {
    SectionWriter writer(from.section_name(), from.section_version());
    from.save(writer);
    for (size_t at = 0; at < writer.body().size(); ++at) {
        std::vector<std::byte> body(writer.body().begin(), writer.body().end());
        body[at] ^= std::byte{0xa5};
        if (auto reader = SectionReader::parse("damaged", 1, body)) {
            (void)to.load(*reader);
        }
        body.resize(at);
        auto reader = SectionReader::parse("cut", 1, body);
        EXPECT_FALSE(reader.ok() && to.load(*reader).ok());
    }
}

class ChipsState : public testing::Test {
protected:
    std::unique_ptr<IrqLine> line(uint32_t gsi) { return platform_.irq_line(gsi).value(); }
    std::unique_ptr<AcpiPm> pm(const Clock& clock) {
        return std::make_unique<AcpiPm>(clock, line(9), AcpiPm::Requests{[] {}, [] {}});
    }
    PlatformFake platform_;
    ManualClock clock_;
};

}  // namespace

TEST_F(ChipsState, SerialKeepsRegistersBacklogAndInterrupt) {
    Serial16550 before(line(4), [](std::string_view) {});
    out8(before, 4, 0x08);  // OUT2
    out8(before, 1, 0x01);  // receive interrupt
    out8(before, 7, 0x5a);
    out8(before, 3, 0x83);
    out8(before, 0, 1);
    out8(before, 3, 0x03);
    before.receive("hello");
    ASSERT_TRUE(platform_.line_level(4));
    PlatformFake other;
    std::string output;
    Serial16550 after(other.irq_line(4).value(), [&](std::string_view text) { output += text; });
    move_state(before, after);
    EXPECT_TRUE(other.line_level(4));
    EXPECT_EQ(in8(after, 0), 'h');
    EXPECT_EQ(in8(after, 7), 0x5a);
    EXPECT_EQ(in8(after, 1), 0x01);
    out8(after, 3, 0x83);
    EXPECT_EQ(in8(after, 0), 1);  // the divisor
    EXPECT_EQ(output, "");        // nothing is printed again
    load_damaged(before, after);
}

TEST_F(ChipsState, ClockShowsTheTimeOfDayWithTheGuestsOffset) {
    CmosRtc before(clock_, 64u << 20);
    out8(before, 0, 0x0b);
    out8(before, 1, 0x06);  // binary, 24 hours
    out8(before, 0, 0x09);
    out8(before, 1, 90);  // the guest sets the year
    out8(before, 0, 0x50);
    out8(before, 1, 0x77);  // battery RAM
    CmosRtc after(clock_, 64u << 20);
    move_state(before, after);
    EXPECT_EQ(in8(after, 1), 0x77);  // the index too
    out8(after, 0, 0x09);
    EXPECT_EQ(in8(after, 1), 90);
    load_damaged(before, after);
}

TEST_F(ChipsState, PowerManagementKeepsEventsAndItsTimerGoesOn) {
    const auto before = pm(clock_);
    out8(*before, 3, 0x01);  // PWRBTN_EN
    before->press_power_button();
    clock_.advance(5 * kNanosPerSecond);
    const uint32_t ticks = in32(*before, 8);
    PlatformFake other;
    ManualClock rebooted;  // another host whose clock has just started
    AcpiPm after(rebooted, other.irq_line(9).value(), AcpiPm::Requests{[] {}, [] {}});
    move_state(*before, after);
    EXPECT_TRUE(other.line_level(9));
    EXPECT_EQ(in8(after, 1), 0x01);
    EXPECT_EQ(in32(after, 8), ticks);
    rebooted.advance(kNanosPerSecond);
    EXPECT_NEAR(in32(after, 8) - ticks, 3'579'545, 1);
    load_damaged(*before, after);
}

TEST_F(ChipsState, LegacyPortsKeepTheirBytes) {
    I8042 before([] {});
    out8(before, 4, 0x60);
    out8(before, 0, 0x45);
    out8(before, 4, 0xaa);
    I8042 after([] {});
    move_state(before, after);
    EXPECT_EQ(in8(after, 4) & 1, 1);
    EXPECT_EQ(in8(after, 0), 0x55);
    out8(after, 4, 0x20);
    EXPECT_EQ(in8(after, 0), 0x45);
    load_damaged(before, after);

    std::string line;
    DebugPort debug("debugcon", 0xe9, [](std::string_view) {});
    out8(debug, 0, 'a');
    DebugPort debug_after("debugcon", 0xe9, [&](std::string_view text) { line = text; });
    move_state(debug, debug_after);
    out8(debug_after, 0, 'b');
    out8(debug_after, 0, '\n');
    EXPECT_EQ(line, "ab");

    Port92 fast([] {});
    out8(fast, 0, 0x00);
    Port92 fast_after([] {});
    move_state(fast, fast_after);
    EXPECT_EQ(in8(fast_after, 0), 0x00);
    PostPort post;
    out8(post, 0, 0x42);
    PostPort post_after;
    move_state(post, post_after);
    EXPECT_EQ(post_after.last_code(), 0x42);
}

TEST_F(ChipsState, MsixKeepsVectorsAndFiresWhatWasPending) {
    PciConfigSpace config(PciIds{});
    Msix before(platform_, 3);
    before.add_capability(config, 0, 0x4000, 0x5000);
    config.write(0x42, 2, 0x8000);
    before.follow_control(config);
    const uint32_t entry[4] = {0xfee00000, 0, 0x51, 1};  // masked
    before.table_write(16, {reinterpret_cast<const uint8_t*>(entry), 16});
    before.trigger(1);
    SectionWriter writer("msix", 1);
    before.save(writer);

    PlatformFake other;
    PciConfigSpace config_after(PciIds{});
    Msix after(other, 3);
    after.add_capability(config_after, 0, 0x4000, 0x5000);
    const auto bytes = std::as_bytes(config.bytes());
    ASSERT_TRUE(config_after.load(bytes).ok());
    SectionReader reader = SectionReader::parse(writer).value();
    ASSERT_TRUE(after.load(reader, config_after).ok());
    EXPECT_TRUE(after.enabled());
    EXPECT_EQ(other.interrupt_count(), 0u);
    const uint32_t unmask = 0;
    after.table_write(16 + 12, {reinterpret_cast<const uint8_t*>(&unmask), 4});
    EXPECT_EQ(other.interrupt_count(0xfee00000, 0x51), 1u);
}

TEST_F(ChipsState, ConfigurationSpaceOfAnotherFunctionIsRefused) {
    PciConfigSpace mine(PciIds{.vendor = 0x1af4, .device = 0x1041});
    PciConfigSpace other(PciIds{.vendor = 0x1af4, .device = 0x1042});
    mine.write(pci::kCommand, 2, 0x0406);
    const auto refused = other.load(std::as_bytes(mine.bytes()));
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("byte 0x2 was 0x41 and is 0x42"), std::string::npos);
    EXPECT_EQ(other.command(), 0);
}
