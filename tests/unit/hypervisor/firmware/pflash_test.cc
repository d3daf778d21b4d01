// The flash chip, driven as OVMF's firmware volume block driver drives it, and the firmware image
// around it.
#include "hypervisor/firmware/pflash.h"

#include <cstring>

#include <gtest/gtest.h>

#include "base/file.h"
#include "hypervisor/board/board_layout.h"
#include "hypervisor/firmware/firmware.h"
#include "tests/support/platform_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kBase = 0xffc0'0000;
constexpr size_t kSize = 64 << 10;

struct StoreFake final : PflashStore {
    Result<void> write(uint64_t offset, std::span<const std::byte> bytes) override {
        if (refuse) {
            return Error::io("the disk is full, as the test wants");
        }
        std::memcpy(&file[offset], bytes.data(), bytes.size());
        ++writes;
        return {};
    }
    std::vector<std::byte> file = std::vector<std::byte>(kSize, std::byte{0xff});
    bool refuse = false;
    int writes = 0;
};

class PflashTest : public testing::Test {
protected:
    void SetUp() override {
        content_ = std::vector<std::byte>(kSize, std::byte{0xff});
        flash_ = Pflash::create(platform_, kBase, content_, store_).value();
    }
    // A guest's read: memory while it is mapped, else the device.
    uint8_t read(uint64_t offset) {
        if (const std::byte* byte = platform_.mapped_byte(kBase + offset)) {
            return static_cast<uint8_t>(*byte);
        }
        uint8_t byte = 0;
        EXPECT_TRUE(platform_.mmio_bus().read(kBase + offset, std::span(&byte, 1)));
        return byte;
    }
    void write(uint64_t offset, uint8_t value) {
        EXPECT_TRUE(
            platform_.mmio_bus().write(kBase + offset, std::span<const uint8_t>(&value, 1)));
    }
    bool mapped() const { return platform_.mapped_byte(kBase) != nullptr; }
    // OVMF's QemuFlashWrite(): program byte by byte, then read-array at the last byte.
    void ovmf_write(uint64_t offset, std::string_view bytes) {
        for (size_t i = 0; i < bytes.size(); ++i) {
            write(offset + i, 0x10);
            write(offset + i, static_cast<uint8_t>(bytes[i]));
        }
        write(offset + bytes.size() - 1, 0xff);
    }

    PlatformFake platform_;
    StoreFake store_;
    std::vector<std::byte> content_;
    std::unique_ptr<Pflash> flash_;
};

// QemuFlashDetected(): RAM would give back what was written, ROM would not change, flash shows the
// cleared status.
TEST_F(PflashTest, OvmfTakesItForFlash) {
    const uint64_t probe = 0x123;
    const uint8_t original = read(probe);
    write(probe, 0x50);  // clear status
    write(probe, 0x70);  // read status
    EXPECT_NE(read(probe), 0x70);
    EXPECT_EQ(read(probe), 0x00);
    write(probe, 0xff);
    EXPECT_EQ(read(probe), original);
    EXPECT_TRUE(mapped());
    EXPECT_EQ(store_.writes, 0);  // looking changes nothing
}

TEST_F(PflashTest, AProgrammedVariableIsDurableWhenTheArrayIsReadAgain) {
    ovmf_write(0x1000, "variable");
    EXPECT_EQ(read(0x1000), 'v');
    EXPECT_TRUE(mapped());
    EXPECT_EQ(store_.writes, 1);
    EXPECT_EQ(std::memcmp(&store_.file[0x1000], "variable", 8), 0);
}

TEST_F(PflashTest, ABlockIsErasedWholeAndOnlyWithConfirmation) {
    ovmf_write(0x1ff0, "0123456789abcdef0123");  // over the border of two blocks
    write(0x1008, 0x20);
    write(0x1008, 0xd0);
    write(0x1008, 0xff);
    EXPECT_EQ(read(0x1ff0), 0xff);
    EXPECT_EQ(read(0x2000), '0');
    EXPECT_EQ(store_.file[0x1ff0], std::byte{0xff});
    write(0x2000, 0x20);
    write(0x2000, 0x42);  // no confirmation
    EXPECT_EQ(read(0x2000) & 0x30, 0x30);
    write(0x2000, 0xff);
    EXPECT_EQ(read(0x2000), '0');
}

TEST_F(PflashTest, BufferedWritesArriveInOneGo) {
    const std::string text = "sixteen bytes ok";
    write(0x3000, 0xe8);
    EXPECT_EQ(read(0x3000) & 0x80, 0x80);
    write(0x3000, static_cast<uint8_t>(text.size() - 1));
    for (size_t i = 0; i < text.size(); ++i) {
        write(0x3000 + i, static_cast<uint8_t>(text[i]));
    }
    write(0x3000, 0xd0);
    write(0x3000, 0xff);
    EXPECT_EQ(std::memcmp(&store_.file[0x3000], text.data(), text.size()), 0);
}

TEST_F(PflashTest, IdentifiesAndDescribesItself) {
    write(0, 0x90);
    EXPECT_EQ(read(0), 0x89);
    EXPECT_EQ(read(1), 0x18);
    write(0, 0x98);
    EXPECT_EQ(read(0x10), 'Q');
    EXPECT_EQ(read(0x27), 16);  // 2^16 bytes
    write(0, 0xff);
}

TEST_F(PflashTest, AStoreThatFailsIsTriedAgainAndCounted) {
    store_.refuse = true;
    ovmf_write(0x10, "x");
    EXPECT_EQ(flash_->write_failures(), 1u);
    EXPECT_EQ(read(0x10), 'x');
    store_.refuse = false;
    ovmf_write(0x20, "y");
    EXPECT_EQ(store_.file[0x10], std::byte{'x'});
    EXPECT_EQ(store_.file[0x20], std::byte{'y'});
}

TEST_F(PflashTest, ResetReturnsToTheArrayAndKeepsWhatWasProgrammed) {
    write(0x40, 0x10);
    write(0x40, 'z');  // and the guest resets before it reads the array
    flash_->reset();
    EXPECT_TRUE(mapped());
    EXPECT_EQ(read(0x40), 'z');
    EXPECT_EQ(store_.file[0x40], std::byte{'z'});
}

TEST_F(PflashTest, AnythingMayBeWrittenAnywhere) {
    for (unsigned command = 0; command < 256; ++command) {
        for (unsigned second = 0; second < 256; second += 5) {
            write(kSize - 1, static_cast<uint8_t>(command));
            write(command * 16, static_cast<uint8_t>(second));
            const uint8_t wide[8] = {0xe8, 0xff, 1, 2, 3, 4, 0xd0, 0xff};
            platform_.mmio_bus().write(kBase + kSize - 4, wide);
            read(second);
        }
    }
    flash_->reset();
    EXPECT_TRUE(mapped());
}

TEST_F(PflashTest, StateGoesToAnotherChipWithItsContent) {
    ovmf_write(0x100, "kept");
    write(0x5000, 0x20);  // an erase that waits for its confirmation
    SectionWriter out("nvram", 1);
    flash_->save(out);
    PlatformFake other_platform;
    StoreFake other_store;
    std::vector<std::byte> other_content(kSize);
    auto other = Pflash::create(other_platform, kBase, other_content, other_store).value();
    SectionReader in = SectionReader::parse(out).value();
    ASSERT_TRUE(other->load(in).ok());
    ASSERT_TRUE(in.finish().ok());
    EXPECT_EQ(std::memcmp(&other_store.file[0x100], "kept", 4), 0);
    const uint8_t confirm = 0xd0;
    const uint8_t array = 0xff;
    other_platform.mmio_bus().write(kBase + 0x100, std::span(&confirm, 1));
    other_platform.mmio_bus().write(kBase + 0x100, std::span(&array, 1));
    EXPECT_EQ(other_content[0x100], std::byte{0xff});  // the erase went on there
}

class FirmwareTest : public testing::Test {
protected:
    std::string file(const std::string& name, size_t size, char fill) {
        const std::string path = folder_.path() + "/" + name;
        std::string bytes(size, fill);
        bytes.replace(size - 5, 5, "reset");
        EXPECT_TRUE(write_file_atomic(path, bytes).ok());
        return path;
    }
    TemporaryDirectory folder_ = TemporaryDirectory::create("firmware-test").value();
    PlatformFake platform_{4u << 20};
};

TEST_F(FirmwareTest, BiosEndsAt4GibAndItsEndIsCopiedBelow1Mib) {
    FirmwareConfig config;
    config.code = file("bios.bin", 256 << 10, 'b');
    auto firmware = Firmware::create(config, platform_, direct_files()).value();
    EXPECT_EQ(platform_.mapped_byte(0xfffb'ffff), nullptr);
    ASSERT_NE(platform_.mapped_byte(0xfffc'0000), nullptr);
    EXPECT_EQ(*platform_.mapped_byte(0xffff'ffff), std::byte{'t'});
    ASSERT_TRUE(firmware->install().ok());
    EXPECT_EQ(platform_.memory().load<char>(0xe0000).value(), 'b');
    EXPECT_EQ(platform_.memory().load<char>(0xfffff).value(), 't');
    ASSERT_TRUE(platform_.memory().fill(0xe0000, 0x20000, std::byte{0}).ok());
    ASSERT_TRUE(firmware->install().ok());  // a reset finds the pristine copy again
    EXPECT_EQ(platform_.memory().load<char>(0xfffff).value(), 't');
}

TEST_F(FirmwareTest, UefiVariablesLieBelowTheCodeAndReachTheirFile) {
    FirmwareConfig config;
    config.type = FirmwareType::Uefi;
    config.code = file("code.fd", 3'653'632, 'c');
    config.nvram = file("nvram.fd", 540'672, 'v');
    auto firmware = Firmware::create(config, platform_, direct_files()).value();
    EXPECT_EQ(*platform_.mapped_byte(0xffc0'0000), std::byte{'v'});  // 4 MiB in all
    EXPECT_EQ(*platform_.mapped_byte(0xffc8'4000), std::byte{'c'});
    for (const uint8_t byte : {0x10, 0x77, 0xff}) {
        platform_.mmio_bus().write(0xffc0'0010, std::span<const uint8_t>(&byte, 1));
    }
    EXPECT_EQ(read_file(config.nvram, 1 << 20).value()[0x10], 0x77);
    const auto second = Firmware::create(config, platform_, direct_files());
    ASSERT_FALSE(second.ok());  // the machine's own copy: nobody else's
}

TEST_F(FirmwareTest, ImagesOfWrongSizeAreRefused) {
    FirmwareConfig config;
    config.code = file("odd.bin", (128 << 10) + 1, 'x');
    EXPECT_FALSE(Firmware::create(config, platform_, direct_files()).ok());
    config.code = file("small.bin", 64 << 10, 'x');
    EXPECT_FALSE(Firmware::create(config, platform_, direct_files()).ok());
    config.code = folder_.path() + "/missing";
    EXPECT_FALSE(Firmware::create(config, platform_, direct_files()).ok());
}

}  // namespace
}  // namespace kumoi::hypervisor
