#include "hypervisor/board/io_bus.h"

#include <array>

#include <gtest/gtest.h>

namespace kumoi::hypervisor {
namespace {

class Recorder final : public IoDevice {
public:
    explicit Recorder(std::string name) : name_(std::move(name)) {}
    std::string name() const override { return name_; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override {
        data[0] = static_cast<uint8_t>(offset);
    }
    void io_write(uint64_t offset, std::span<const uint8_t> data) override {
        last_offset = offset;
        last_size = data.size();
    }
    uint64_t last_offset = 0;
    size_t last_size = 0;

private:
    std::string name_;
};

TEST(IoBus, RefusesOverlapsNamingBoth) {
    IoBus bus;
    Recorder first("first");
    Recorder second("second");
    ASSERT_TRUE(bus.add(0x100, 0x10, first).ok());
    for (const auto& [base, size] :
         {std::pair<uint64_t, uint64_t>{0x10f, 1}, {0xff, 2}, {0x100, 0x10}, {0xf0, 0x100}}) {
        const auto added = bus.add(base, size, second);
        ASSERT_FALSE(added.ok()) << base;
        EXPECT_NE(added.error().message.find("first"), std::string::npos);
        EXPECT_NE(added.error().message.find("second"), std::string::npos);
    }
    EXPECT_TRUE(bus.add(0x110, 1, second).ok());
}

TEST(IoBus, RefusesEmptyAndWrappingRanges) {
    IoBus bus;
    Recorder device("d");
    EXPECT_FALSE(bus.add(0, 0, device).ok());
    EXPECT_FALSE(bus.add(UINT64_MAX, 2, device).ok());
    EXPECT_TRUE(bus.add(UINT64_MAX, 1, device).ok());
}

TEST(IoBus, AnswersAllOnesWhereNothingIs) {
    IoBus bus;
    std::array<uint8_t, 4> data{1, 2, 3, 4};
    EXPECT_FALSE(bus.read(0x500, data));
    EXPECT_EQ(data, (std::array<uint8_t, 4>{0xff, 0xff, 0xff, 0xff}));
    EXPECT_FALSE(bus.write(0x500, data));
}

TEST(IoBus, GivesOffsetsFromTheBase) {
    IoBus bus;
    Recorder device("d");
    ASSERT_TRUE(bus.add(0x3f8, 8, device).ok());
    std::array<uint8_t, 2> data{};
    EXPECT_TRUE(bus.read(0x3fd, data));
    EXPECT_EQ(data[0], 5);
    EXPECT_TRUE(bus.write(0x3ff, data));
    EXPECT_EQ(device.last_offset, 7u);
    EXPECT_EQ(device.last_size, 2u);
    EXPECT_FALSE(bus.write(0x400, data));
    bus.remove(0x3f8);
    EXPECT_FALSE(bus.write(0x3ff, data));
}

}  // namespace
}  // namespace kumoi::hypervisor
