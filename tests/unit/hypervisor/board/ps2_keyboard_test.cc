#include "hypervisor/board/ps2_keyboard.h"

#include <gtest/gtest.h>

#include <string>

namespace kumoi::hypervisor {
namespace {

std::string drain(Ps2Keyboard& keyboard) {
    std::string out;
    while (const auto byte = keyboard.take()) {
        out += fmt::format("{:02x} ", *byte);
    }
    return out;
}

TEST(Ps2KeyboardTest, AnswersFirmware) {
    Ps2Keyboard keyboard;
    keyboard.key(0x1e, true);  // before it is enabled nothing is sent
    EXPECT_EQ(drain(keyboard), "");
    keyboard.write(0xff);
    EXPECT_EQ(drain(keyboard), "fa aa ");
    keyboard.write(0xf2);
    EXPECT_EQ(drain(keyboard), "fa ab 83 ");
    keyboard.write(0xed);
    keyboard.write(0x02);
    EXPECT_EQ(drain(keyboard), "fa fa ");
    keyboard.write(0xf5);
    keyboard.write(0xee);
    keyboard.write(0x77);
    EXPECT_EQ(drain(keyboard), "fa ee fe ");
}

TEST(Ps2KeyboardTest, SendsBothSets) {
    Ps2Keyboard keyboard;
    keyboard.write(0xf4);
    EXPECT_EQ(drain(keyboard), "fa ");
    keyboard.key(0x1e, true);  // A
    keyboard.key(0x1e, false);
    keyboard.key(0xe048, true);  // up
    keyboard.key(0xe048, false);
    EXPECT_EQ(drain(keyboard), "1c f0 1c e0 75 e0 f0 75 ");
    keyboard.write(0xf0);
    keyboard.write(0x01);
    EXPECT_EQ(drain(keyboard), "fa fa ");
    keyboard.key(0xe048, false);
    EXPECT_EQ(drain(keyboard), "e0 c8 ");
    keyboard.write(0xf0);
    keyboard.write(0x00);
    EXPECT_EQ(drain(keyboard), "fa fa 01 ");
}

TEST(Ps2KeyboardTest, TranslationIsTheInverseOfSetTwo) {
    Ps2Keyboard keyboard;
    keyboard.write(0xf4);
    drain(keyboard);
    for (uint16_t code = 1; code <= 0x58; ++code) {
        keyboard.key(code, true);
        const auto sent = keyboard.take();
        if (code == 0x55) {
            EXPECT_FALSE(sent);  // no such key
            continue;
        }
        ASSERT_TRUE(sent) << code;
        EXPECT_EQ(ps2_translated(*sent), code);
        EXPECT_FALSE(keyboard.take());
    }
    EXPECT_EQ(ps2_translated(0xfa), 0xfa);
}

TEST(Ps2KeyboardTest, IsBoundedAndRestores) {
    Ps2Keyboard keyboard;
    keyboard.write(0xf4);
    for (int i = 0; i < 1000; ++i) {
        keyboard.key(0xe048, i % 2 == 0);
        keyboard.write(0xf2);
    }
    SectionWriter out("keyboard", 1);
    keyboard.save(out);
    auto reader = SectionReader::parse(out);
    ASSERT_TRUE(reader);
    Ps2Keyboard other;
    ASSERT_TRUE(other.load(*reader));
    EXPECT_TRUE(other.scanning());
    const std::string rest = drain(keyboard);
    EXPECT_EQ(rest, drain(other));
    EXPECT_LE(rest.size(), 3 * Ps2Keyboard::kBufferMax);
}

}  // namespace
}  // namespace kumoi::hypervisor
