// The saved state of what a display brings along: round trips, hostile bytes, and what the first
// release that had it wrote.
#include <gtest/gtest.h>
#include <zstd.h>

#include <filesystem>

#include <fcntl.h>

#include "base/file.h"
#include "hypervisor/board/legacy_ports.h"
#include "hypervisor/display/bochs_display.h"
#include "hypervisor/pci/pci_root.h"
#include "hypervisor/snapshot/snapshot_reader.h"
#include "hypervisor/virtio/input.h"
#include "tests/support/platform_fake.h"

namespace kumoi::hypervisor {
namespace {

class NoLine final : public IrqLine {
public:
    void set_level(bool) override {}
};

std::unique_ptr<I8042> controller_with_keyboard() {
    auto controller = std::make_unique<I8042>([] {});
    controller->plug_keyboard(std::make_unique<NoLine>());
    return controller;
}

template <class Part>
SectionWriter saved(const Part& part) {
    SectionWriter writer("part", 1);
    part.save(writer);
    return writer;
}

TEST(DisplayState, KeyboardControllerKeepsWhatTheGuestHasNotRead) {
    auto controller = controller_with_keyboard();
    const auto out = [](I8042& chip, uint64_t offset, uint8_t value) {
        chip.io_write(offset, {&value, 1});
    };
    const auto in = [](I8042& chip) {
        uint8_t value = 0;
        chip.io_read(0, {&value, 1});
        return value;
    };
    out(*controller, 4, 0x60);
    out(*controller, 0, 0x61);
    out(*controller, 0, 0xf4);  // scan
    EXPECT_EQ(in(*controller), 0xfa);
    controller->key(30, true);
    controller->key(30, false);
    const SectionWriter state = saved(*controller);
    auto other = controller_with_keyboard();
    auto reader = SectionReader::parse(state).value();
    ASSERT_TRUE(other->load(reader));
    EXPECT_TRUE(reader.finish());
    EXPECT_TRUE(other->ready());
    EXPECT_EQ(in(*other), 0x1e);
    EXPECT_EQ(in(*other), 0x9e);
    I8042 without([] {});  // an older machine's state has no keyboard, and the other way round
    auto again = SectionReader::parse(state).value();
    EXPECT_TRUE(without.load(again));
    EXPECT_TRUE(again.finish());
    const SectionWriter old = saved(without);
    auto old_reader = SectionReader::parse(old).value();
    EXPECT_TRUE(other->load(old_reader));
}

TEST(DisplayState, HostileStatesAreRefused) {
    SectionWriter keys("keyboard", 1);
    keys.bytes(1, std::span<const std::byte>(std::vector<std::byte>(17)));
    keys.u64(2, 0).u64(3, 2).flag(4, true);
    SectionWriter chip("i8042", 1);
    chip.u64(1, 0).u64(2, 0).flag(3, false).u64(4, 0).group(5, keys);
    auto reader = SectionReader::parse(chip).value();
    EXPECT_FALSE(controller_with_keyboard()->load(reader));

    for (const size_t size : {size_t{7}, size_t{8} * 5000}) {
        SectionWriter events("device", 1);
        events.u64(1, 0).bytes(2, std::span<const std::byte>(std::vector<std::byte>(size)));
        auto in = SectionReader::parse(events).value();
        VirtioKeyboard keyboard("keyboard");
        EXPECT_FALSE(keyboard.load(in)) << size;
    }
}

TEST(DisplayState, FirstReleasesSnapshotIsRead) {
    const std::string packed =
        read_file("tests/golden/snapshot/format-1-display.zst", 1u << 20).value();
    std::string whole(ZSTD_getFrameContentSize(packed.data(), packed.size()), '\0');
    ASSERT_EQ(ZSTD_decompress(whole.data(), whole.size(), packed.data(), packed.size()),
              whole.size());
    const std::string path = testing::TempDir() + "format-1-display";
    ASSERT_TRUE(write_file_atomic(path, whole));
    auto file = SnapshotReader::open(UniqueFd(::open(path.c_str(), O_RDONLY)), path).value();
    auto chip = file->section("i8042").value();
    EXPECT_TRUE(controller_with_keyboard()->load(chip));
    EXPECT_TRUE(chip.finish());

    PlatformFake platform(2u << 20);
    auto display = BochsDisplay::create(platform, {}).value();
    VirtioKeyboard keyboard("keyboard");
    VirtioTablet tablet("tablet");
    auto pci = file->section("pci").value();
    size_t found = 0;
    for (SectionReader& one : pci.groups(2).value()) {
        auto state = one.group(4).value();
        if (one.name() == "display") {
            EXPECT_EQ(one.u64(1).value(), 2u);
            EXPECT_TRUE(display->config_space()->load(one.bytes(3).value()));
            EXPECT_TRUE(display->load(state));
            EXPECT_TRUE(state.finish());
            ++found;
        } else if (one.name() == "keyboard" || one.name() == "tablet") {
            VirtioInput& device = one.name() == "tablet" ? static_cast<VirtioInput&>(tablet)
                                                         : static_cast<VirtioInput&>(keyboard);
            auto own = state.group(9).value();
            EXPECT_TRUE(device.load(own));
            EXPECT_TRUE(own.finish());
            ++found;
        }
    }
    EXPECT_EQ(found, 3u);
    EXPECT_EQ(display->mode(), (DisplayMode{320, 200}));
    std::vector<uint32_t> row(320);
    ASSERT_TRUE(display->read_row({320, 200}, 8, row));
    EXPECT_EQ(row[3], 0x080355u);
    EXPECT_EQ(row[300], 0x082c55u);
    std::filesystem::remove(path);
}

TEST(DisplayState, OptionRomIsSeenOnlyWhenEnabled) {
    PlatformFake platform(2u << 20);
    auto display = BochsDisplay::create(platform, {.rom = std::string("\x55\xaa\x01", 3)}).value();
    PciRoot root(platform, {.ecam_base = 0});
    ASSERT_TRUE(root.add({2}, *display));
    ASSERT_TRUE(root.attach());
    root.config_write(2, 0, 0x30, 4, 0xffff'fffe);
    EXPECT_EQ(root.config_read(2, 0, 0x30, 4), 0xffff'0000u);  // 64 KiB
    root.config_write(2, 0, 0x30, 4, 0xd000'0000);
    root.config_write(2, 0, 0x04, 2, 2);
    EXPECT_EQ(root.bar_address({2}, pci::kRom), 0u);
    root.config_write(2, 0, 0x30, 4, 0xd000'0001);
    EXPECT_EQ(root.bar_address({2}, pci::kRom), 0xd000'0000u);
    std::array<uint8_t, 4> bytes{};
    platform.mmio_bus().read(0xd000'0000, bytes);
    EXPECT_EQ(bytes, (std::array<uint8_t, 4>{0x55, 0xaa, 0x01, 0x00}));
    platform.mmio_bus().write(0xd000'0000, bytes);  // read only: ignored
    ASSERT_TRUE(root.reset());
    EXPECT_EQ(root.bar_address({2}, pci::kRom), 0u);
    root.config_write(2, 0, 0x30, 4, 0x0000'0001);  // over RAM: not in the window
    EXPECT_EQ(root.bar_address({2}, pci::kRom), 0u);
    EXPECT_FALSE(
        BochsDisplay::create(platform, {.rom = std::string(kOptionRomSizeMax + 1, 'x')}).ok());
}

}  // namespace
}  // namespace kumoi::hypervisor
