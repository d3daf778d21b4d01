#include "hypervisor/snapshot/section.h"

#include <gtest/gtest.h>

#include <algorithm>

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

std::vector<std::byte> raw(std::initializer_list<int> values) {
    std::vector<std::byte> bytes;
    for (const int value : values) {
        bytes.push_back(static_cast<std::byte>(value));
    }
    return bytes;
}

SectionReader reader_of(const SectionWriter& writer) {
    auto reader = SectionReader::parse(writer);
    EXPECT_TRUE(reader.ok());
    return std::move(reader).value();
}

struct Registers {
    uint32_t first;
    uint16_t second[2];
};

}  // namespace

TEST(Section, ReadsBackWhatWasWritten) {
    SectionWriter writer("serial0", 3);
    const auto blob = raw({1, 2, 3});
    writer.u64(1, 0x1122334455667788).bytes(2, std::span<const std::byte>(blob)).text(3, "ttyS0");
    writer.flag(4, true).object(5, Registers{7, {8, 9}});
    SectionReader reader = reader_of(writer);
    EXPECT_EQ(reader.name(), "serial0");
    EXPECT_EQ(reader.version(), 3);
    EXPECT_EQ(reader.u64(1).value(), 0x1122334455667788u);
    EXPECT_TRUE(std::ranges::equal(reader.bytes(2).value(), blob));
    EXPECT_EQ(reader.text(3).value(), "ttyS0");
    EXPECT_TRUE(reader.flag(4).value());
    const auto registers = reader.object<Registers>(5).value();
    EXPECT_EQ(registers.first, 7u);
    EXPECT_EQ(registers.second[1], 9u);
    EXPECT_TRUE(reader.finish().ok());
}

TEST(Section, BytesAreTheDocumentedOnes) {
    SectionWriter inner("q", 2);
    inner.u64(1, 5);
    SectionWriter writer("x", 1);
    writer.text(0x8001, "ab").group(2, inner);
    const auto expected = raw({0x01, 0x80, 3, 0, 2,  0, 0, 0, 'a', 'b',             //
                               2,    0,    4, 0, 21, 0, 0, 0, 2,   0,   1, 0, 'q',  //
                               1,    0,    1, 0, 8,  0, 0, 0, 5,   0,   0, 0, 0,   0, 0, 0});
    EXPECT_TRUE(std::ranges::equal(writer.body(), expected));
}

TEST(Section, GroupsKeepOrderNameAndVersion) {
    SectionWriter writer("virtio", 1);
    for (uint64_t index = 0; index < 3; ++index) {
        SectionWriter queue("queue", static_cast<uint16_t>(index + 1));
        queue.u64(1, index * 10);
        writer.group(9, queue);
        writer.u64(static_cast<uint16_t>(20 - index), index);  // other fields in between
    }
    SectionReader reader = reader_of(writer);
    auto queues = reader.groups(9).value();
    ASSERT_EQ(queues.size(), 3u);
    for (uint64_t index = 0; index < 3; ++index) {
        EXPECT_EQ(queues[index].name(), "queue");
        EXPECT_EQ(queues[index].version(), index + 1);
        EXPECT_EQ(queues[index].u64(1).value(), index * 10);
    }
    EXPECT_TRUE(reader.groups(77).value().empty());
    EXPECT_FALSE(reader.group(9).ok());
    EXPECT_EQ(reader.groups(9, 2).error().code, ErrorCode::Corrupt);
}

TEST(Section, MissingAndWrongFieldsAreErrorsThatNameThem) {
    SectionWriter writer("rtc", 1);
    writer.u64(1, 256).text(2, "abcdef").u64(3, 1).u64(3, 2).u64(4, 2);
    SectionReader reader = reader_of(writer);
    EXPECT_EQ(reader.u64(7).error().message, "section rtc: field 0x7 is missing");
    EXPECT_EQ(reader.u8(1).error().message, "section rtc: field 0x1 is 256, more than 255");
    EXPECT_EQ(reader.u16(1).value(), 256);
    EXPECT_EQ(reader.u64_max(1, 255).error().code, ErrorCode::Corrupt);
    EXPECT_EQ(reader.text(1).error().message, "section rtc: field 0x1 is a number, not text");
    EXPECT_FALSE(reader.bytes(2).ok());
    EXPECT_FALSE(reader.text(2, 5).ok());
    EXPECT_FALSE(reader.u64(3).ok());
    EXPECT_FALSE(reader.flag(4).ok());
    EXPECT_EQ(reader.u64_or(7, 42).value(), 42u);
    EXPECT_EQ(reader.u64_or(1, 42).value(), 256u);
    EXPECT_FALSE(reader.u64_or(2, 42).ok());
    EXPECT_FALSE(reader.groups(1).ok());
}

TEST(Section, UnknownOptionalFieldsAreSkippedAndRequiredOnesRefused) {
    SectionWriter writer("pm", 1);
    writer.u64(1, 1).u64(0x7fff, 1);
    EXPECT_TRUE(reader_of(writer).finish().ok());
    writer.u64(0x8000, 1).u64(0x9000, 1).u64(0x9000, 2).u64(0xa000, 3);
    SectionReader reader = reader_of(writer);
    EXPECT_EQ(reader.u64(0x8000).value(), 1u);
    const auto refused = reader.finish();
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::Unsupported);
    EXPECT_NE(refused.error().message.find("0x9000, 0xa000"), std::string::npos);
    EXPECT_EQ(refused.error().message.find("0x8000"), std::string::npos);
}

TEST(Section, EveryCutOfABodyIsEitherWholeFieldsOrRefused) {
    SectionWriter inner("i", 1);
    inner.u64(1, 1).text(2, "xyz");
    SectionWriter writer("cut", 1);
    writer.u64(1, 5).text(2, "hello").group(3, inner);
    size_t accepted = 0;
    for (size_t size = 0; size <= writer.body().size(); ++size) {
        const std::vector<std::byte> cut(writer.body().begin(),
                                         writer.body().begin() + static_cast<ptrdiff_t>(size));
        accepted += SectionReader::parse("cut", 1, cut).ok() ? 1 : 0;
    }
    EXPECT_EQ(accepted, 4u);  // nothing, one, two, three fields
}

TEST(Section, RefusesLengthsAndKindsThatCannotBe) {
    const auto parses = [](std::vector<std::byte> body) {
        return SectionReader::parse("bad", 1, body).ok();
    };
    EXPECT_FALSE(parses(raw({1, 0, 2, 0, 0xff, 0xff, 0xff, 0xff})));
    EXPECT_FALSE(parses(raw({1, 0, 0, 0, 0, 0, 0, 0})));
    EXPECT_FALSE(parses(raw({1, 0, 5, 0, 0, 0, 0, 0})));
    EXPECT_FALSE(parses(raw({1, 0, 1, 0, 4, 0, 0, 0, 1, 2, 3, 4})));
    EXPECT_TRUE(parses(raw({1, 0, 2, 0, 0, 0, 0, 0})));
    const auto short_group = raw({1, 0, 4, 0, 4, 0, 0, 0, 1, 0, 9, 0});  // a name of nine in none
    SectionReader reader = SectionReader::parse("bad", 1, short_group).value();
    EXPECT_FALSE(reader.groups(1).ok());
}

TEST(Section, CountsOfFieldsAreBounded) {
    std::vector<std::byte> body;
    for (size_t i = 0; i <= kSectionFieldsMax; ++i) {
        const auto field = raw({1, 0, 2, 0, 0, 0, 0, 0});
        body.insert(body.end(), field.begin(), field.end());
    }
    EXPECT_EQ(SectionReader::parse("many", 1, body).error().code, ErrorCode::TooLarge);
}
