#include "compute/driver/console_tail.h"

#include <gtest/gtest.h>

#include "base/file.h"

namespace kumoi::compute {
namespace {

TEST(ConsoleTail, LastLines) {
    EXPECT_EQ(last_lines("a\nb\nc\n", 2), "c\n");
    EXPECT_EQ(last_lines("a\nb\nc\n", 3), "b\nc\n");
    EXPECT_EQ(last_lines("a\nb\nc\n", 4), "a\nb\nc\n");
    EXPECT_EQ(last_lines("\nb", 2), "\nb");
    EXPECT_EQ(last_lines("a\nb\nc", 1), "c");
    EXPECT_EQ(last_lines("a\nb\n", 9), "a\nb\n");
    EXPECT_EQ(last_lines("a\nb\n", 0), "");
    EXPECT_EQ(last_lines("a\nb\n", -1), "a\nb\n");
    EXPECT_EQ(last_lines("", 3), "");
    EXPECT_EQ(last_lines("\n\n", 1), "");
    EXPECT_EQ(last_lines("\n\n", 2), "\n");
}

TEST(ConsoleTail, TurnsAnyBytesIntoUtf8) {
    EXPECT_EQ(to_utf8("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
    EXPECT_EQ(to_utf8(std::string_view("a\0b", 3)), "ab");
    EXPECT_EQ(to_utf8("\xff\xfe"), "??");
    EXPECT_EQ(to_utf8("cut\xc3"), "cut?");
    EXPECT_EQ(to_utf8("\xc0\xaf"), "??");            // overlong slash
    EXPECT_EQ(to_utf8("\xed\xa0\x80"), "???");       // surrogate
    EXPECT_EQ(to_utf8("\xf4\x90\x80\x80"), "????");  // beyond U+10FFFF
    EXPECT_EQ(to_utf8("\xf0\x9f\x98\x80"), "\xf0\x9f\x98\x80");
}

TEST(ConsoleTail, JoinsTheFileBeforeAndHasALimit) {
    const auto directory = TemporaryDirectory::create("console").value();
    const InstanceFolder folder(directory.path(), "server");
    EXPECT_EQ(*console_tail(folder, -1, 100), "");  // it never ran
    ASSERT_TRUE(make_directories(folder.path()).ok());
    ASSERT_TRUE(write_file_atomic(folder.console_log_before(), "1\n2\n3\n").ok());
    ASSERT_TRUE(write_file_atomic(folder.console_log(), "4\n5\n").ok());
    EXPECT_EQ(*console_tail(folder, -1, 100), "1\n2\n3\n4\n5\n");
    EXPECT_EQ(*console_tail(folder, 3, 100), "4\n5\n");
    EXPECT_EQ(*console_tail(folder, -1, 6), "3\n4\n5\n");
    EXPECT_EQ(*console_tail(folder, -1, 2), "5\n");
}

}  // namespace
}  // namespace kumoi::compute
