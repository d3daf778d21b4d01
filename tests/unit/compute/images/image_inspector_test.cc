#include "compute/images/image_inspector.h"

#include <gtest/gtest.h>

namespace kumoi::compute {
namespace {

std::string qcow2(uint32_t version = 3, uint64_t backing_offset = 0, uint64_t size = 1u << 30,
                  uint64_t incompatible = 0) {
    std::string bytes;
    const auto put = [&](uint64_t value, int width) {
        for (int shift = (width - 1) * 8; shift >= 0; shift -= 8) {
            bytes += static_cast<char>(value >> shift & 0xff);
        }
    };
    put(0x514649fb, 4);
    put(version, 4);
    put(backing_offset, 8);
    put(0, 4);
    put(16, 4);
    put(size, 8);
    bytes.resize(72);
    put(incompatible, 8);
    bytes.resize(104);
    return bytes;
}

Result<ImageInspection> inspect(const std::string& format, const std::string& bytes) {
    return inspect_image(format, std::as_bytes(std::span(bytes)), bytes.size());
}

TEST(ImageInspector, RefusesQcow2ThatPointsOutOfItself) {
    EXPECT_FALSE(inspect("qcow2", qcow2(3, 104)).ok());
    EXPECT_FALSE(inspect("qcow2", qcow2(3, 0, 1, 4)).ok());
}

TEST(ImageInspector, RefusesWhatIsNoQcow2) {
    EXPECT_FALSE(inspect("qcow2", "").ok());
    EXPECT_FALSE(inspect("qcow2", "QFI").ok());
    EXPECT_FALSE(inspect("qcow2", qcow2().substr(0, 75)).ok());
    EXPECT_FALSE(inspect("qcow2", qcow2(4)).ok());
    EXPECT_FALSE(inspect("qcow2", qcow2(3, 0, ~uint64_t{0})).ok());
    EXPECT_FALSE(inspect("raw", qcow2()).ok());
    EXPECT_FALSE(inspect("iso", qcow2()).ok());
}

TEST(ImageInspector, FindsTheVirtualSize) {
    EXPECT_EQ(inspect("qcow2", qcow2())->virtual_size, 1u << 30);
    EXPECT_EQ(inspect("qcow2", qcow2(2).substr(0, 72))->virtual_size, 1u << 30);
    EXPECT_EQ(inspect("raw", "abc")->virtual_size, 3u);
    EXPECT_EQ(inspect("aki", qcow2())->virtual_size, std::nullopt);
    EXPECT_TRUE(inspect("raw", "").ok());
}

}  // namespace
}  // namespace kumoi::compute
