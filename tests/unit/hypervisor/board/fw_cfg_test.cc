#include "hypervisor/board/fw_cfg.h"

#include <cstring>

#include <gtest/gtest.h>

#include "tests/support/platform_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kBlock = 0x1000;   // DMA control block
constexpr uint64_t kBuffer = 0x2000;  // where its data goes
constexpr uint32_t kRead = 2;
constexpr uint32_t kSkip = 4;
constexpr uint32_t kSelect = 8;
constexpr uint32_t kWrite = 16;

std::string big_endian(uint64_t value, int size) {
    std::string bytes;
    for (int i = size - 1; i >= 0; --i) {
        bytes += static_cast<char>(value >> (8 * i));
    }
    return bytes;
}

class FwCfgTest : public testing::Test {
protected:
    void select(uint16_t key) {
        const uint8_t bytes[2] = {static_cast<uint8_t>(key), static_cast<uint8_t>(key >> 8)};
        device.io_write(0, bytes);
    }
    std::string read(size_t size) {
        std::string bytes;
        for (size_t i = 0; i < size; ++i) {
            uint8_t byte = 0;
            device.io_read(1, std::span(&byte, 1));
            bytes += static_cast<char>(byte);
        }
        return bytes;
    }
    // As a guest does it: two writes of four bytes, big endian. Returns the control word after.
    uint32_t dma(uint32_t control, uint32_t length, uint64_t address = kBuffer) {
        const std::string block =
            big_endian(control, 4) + big_endian(length, 4) + big_endian(address, 8);
        EXPECT_TRUE(memory.write(kBlock, std::as_bytes(std::span(block))).ok());
        const std::string where = big_endian(kBlock, 8);
        const auto* bytes = reinterpret_cast<const uint8_t*>(where.data());
        device.io_write(4, std::span(bytes, 4));
        device.io_write(8, std::span(bytes + 4, 4));
        return __builtin_bswap32(memory.load<uint32_t>(kBlock).value());
    }
    std::string buffer(size_t size) {
        std::string bytes(size, '?');
        EXPECT_TRUE(memory.read(kBuffer, std::as_writable_bytes(std::span(bytes))).ok());
        return bytes;
    }
    // Key and size of a file, as firmware finds them.
    std::pair<uint16_t, uint32_t> find(const std::string& name) {
        select(FwCfg::kDirectory);
        const std::string count = read(4);
        for (int i = 0; i < static_cast<uint8_t>(count[3]); ++i) {
            const std::string entry = read(64);
            if (std::string(entry.c_str() + 8) == name) {
                return {static_cast<uint16_t>(static_cast<uint8_t>(entry[4]) << 8 |
                                              static_cast<uint8_t>(entry[5])),
                        static_cast<uint32_t>(static_cast<uint8_t>(entry[2]) << 8 |
                                              static_cast<uint8_t>(entry[3]))};
            }
        }
        return {0, 0};
    }

    PlatformFake platform{1u << 20};
    GuestMemory& memory = platform.memory();
    FwCfg device{memory};
};

TEST_F(FwCfgTest, SaysWhoItIsAndThatItHasDma) {
    select(FwCfg::kSignature);
    EXPECT_EQ(read(5), std::string("QEMU\0", 5));  // zeros follow the end
    select(FwCfg::kId);
    EXPECT_EQ(read(1), "\x03");
    uint8_t dma_signature[4];
    device.io_read(4, dma_signature);
    EXPECT_EQ(std::memcmp(dma_signature, "QEMU", 4), 0);
}

TEST_F(FwCfgTest, DirectoryIsSortedAndNamesEveryFile) {
    ASSERT_TRUE(device.add_file("etc/zeta", "zz").ok());
    ASSERT_TRUE(device.add_file("bootorder", "order").ok());
    select(FwCfg::kDirectory);
    EXPECT_EQ(read(4), std::string("\0\0\0\2", 4));
    EXPECT_STREQ(read(64).c_str() + 8, "bootorder");
    const auto [key, size] = find("etc/zeta");
    EXPECT_EQ(size, 2u);
    select(key);
    EXPECT_EQ(read(2), "zz");
}

TEST_F(FwCfgTest, RefusesANameTwiceOrTooLong) {
    ASSERT_TRUE(device.add_file("a", "1").ok());
    EXPECT_FALSE(device.add_file("a", "2").ok());
    EXPECT_FALSE(device.add_file(std::string(56, 'x'), "").ok());
    EXPECT_FALSE(device.add_file("", "").ok());
}

TEST_F(FwCfgTest, DmaSelectsSkipsReadsAndPadsWithZeros) {
    device.add_item(0x10, "0123456789");
    EXPECT_EQ(dma(0x10u << 16 | kSelect | kSkip, 4), 0u);
    EXPECT_EQ(dma(kRead, 3), 0u);
    EXPECT_EQ(buffer(3), "456");
    EXPECT_EQ(dma(kRead, 6), 0u);
    EXPECT_EQ(buffer(6), std::string("789\0\0\0", 6));
}

TEST_F(FwCfgTest, DmaErrorsAreReportedAndHarmless) {
    device.add_item(0x10, "0123456789");
    EXPECT_EQ(dma(0x10u << 16 | kSelect | kRead, 10, 1u << 20), 1u);      // behind RAM
    EXPECT_EQ(dma(0x10u << 16 | kSelect | kRead, 10, ~uint64_t{3}), 1u);  // wraps
    EXPECT_EQ(dma(0x10u << 16 | kSelect | kRead, ~0u), 1u);               // absurd
    EXPECT_EQ(dma(0x10u << 16 | kSelect | kWrite, 4), 1u);                // not writable
    const uint8_t nowhere[4] = {0xff, 0xff, 0xff, 0xff};
    device.io_write(4, nowhere);
    device.io_write(8, nowhere);  // no control block there
    EXPECT_EQ(dma(0x10u << 16 | kSelect | kRead, 2), 0u);
    EXPECT_EQ(buffer(2), "01");
}

TEST_F(FwCfgTest, GeneratedFilesAreMadeAtEachSelection) {
    int made = 0;
    ASSERT_TRUE(device.add_generated("t", 4, [&made] { return std::to_string(++made); }).ok());
    const auto [key, size] = find("t");
    EXPECT_EQ(size, 4u);
    select(key);
    EXPECT_EQ(read(4), std::string("1\0\0\0", 4));
    EXPECT_EQ(dma(uint32_t{key} << 16 | kSelect | kRead, 1), 0u);
    EXPECT_EQ(buffer(1), "2");
}

TEST_F(FwCfgTest, WritableFilesTakeWritesInsideAndForgetThemAtReset) {
    std::string seen;
    ASSERT_TRUE(device
                    .add_writable("etc/addr", std::string(8, '\0'),
                                  [&seen](const std::string& bytes) { seen = bytes; })
                    .ok());
    const auto key = find("etc/addr").first;
    const std::string text = "abcd";
    ASSERT_TRUE(memory.write(kBuffer, std::as_bytes(std::span(text))).ok());
    EXPECT_EQ(dma(uint32_t{key} << 16 | kSelect | kWrite, 4), 0u);
    EXPECT_EQ(seen, std::string("abcd\0\0\0\0", 8));
    EXPECT_EQ(dma(kWrite, 5), 1u);  // one byte too many
    device.reset();
    EXPECT_EQ(device.file("etc/addr").value(), std::string(8, '\0'));
}

TEST_F(FwCfgTest, AnyOtherAccessDoesNothing) {
    for (uint64_t offset = 0; offset < 20; ++offset) {
        for (const size_t width : {1u, 2u, 4u, 8u}) {
            uint8_t bytes[8] = {};
            device.io_read(offset, std::span(bytes, width));
        }
    }
    select(FwCfg::kSignature);
    const uint8_t byte[1] = {7};
    device.io_write(0, byte);
    device.io_write(1, byte);
    EXPECT_EQ(read(4), "QEMU");
}

}  // namespace
}  // namespace kumoi::hypervisor
