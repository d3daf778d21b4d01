#include "api/http/body_decoder.h"

#include <gtest/gtest.h>

namespace kumoi::api {
namespace {

Result<std::string> decode_all(BodyDecoder decoder, std::string_view input, size_t step,
                               std::string* rest = nullptr) {
    std::string out;
    while (!decoder.finished()) {
        if (input.empty()) {
            return Error::cancelled("cut");
        }
        std::string_view piece_of_input = input.substr(0, step);
        const size_t before = piece_of_input.size();
        const std::string_view piece = TRY(decoder.decode(piece_of_input));
        out += piece;
        input.remove_prefix(before - piece_of_input.size());
    }
    if (rest != nullptr) {
        *rest = input;
    }
    return out;
}

TEST(BodyDecoder, RefusesBrokenChunks) {
    for (const char* input :
         {"\r\n", "x\r\n", "-1\r\n", "1\nx", "1\r\nxy", "1\r\nx\n", "1;a\nb", "1;\x01\r\n",
          "1\r\nx\r\n0\r\n\n", "0\r\nT: v\n", "fffffffffffffffff\r\n", " 1\r\nx\r\n", "1 \r\nx\r\n",
          "0x1\r\n", "1\rx"}) {
        const auto decoded = decode_all(BodyDecoder::chunked(1000), input, 1);
        ASSERT_FALSE(decoded.ok()) << input;
        EXPECT_EQ(decoded.error().code, ErrorCode::InvalidArgument) << input;
    }
    const std::string long_extension = "1;" + std::string(2000, 'a') + "\r\n";
    EXPECT_FALSE(decode_all(BodyDecoder::chunked(1000), long_extension, 100).ok());
    const std::string long_trailer = "0\r\nT: " + std::string(9000, 'a') + "\r\n\r\n";
    EXPECT_FALSE(decode_all(BodyDecoder::chunked(1000), long_trailer, 100).ok());
}

TEST(BodyDecoder, StopsAtTheLimitBeforeTheDataComes) {
    const auto chunked = decode_all(BodyDecoder::chunked(4), "3\r\nabc\r\n2\r\n", 100);
    ASSERT_FALSE(chunked.ok());
    EXPECT_EQ(chunked.error().code, ErrorCode::TooLarge);
    EXPECT_TRUE(decode_all(BodyDecoder::chunked(5), "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 3).ok());
}

TEST(BodyDecoder, GivesTheSameBodyHoweverTheInputIsCut) {
    const std::string_view input =
        "4\r\nWiki\r\n5;x=y\r\npedia\r\nA\r\n0123456789\r\n0\r\nT: v\r\n\r\nGET";
    for (size_t step = 1; step <= input.size(); ++step) {
        std::string rest;
        const auto decoded = decode_all(BodyDecoder::chunked(1000), input, step, &rest);
        ASSERT_TRUE(decoded.ok()) << step;
        EXPECT_EQ(decoded.value(), "Wikipedia0123456789");
        EXPECT_EQ(rest, "GET");
    }
}

TEST(BodyDecoder, CountsExactly) {
    std::string rest;
    EXPECT_EQ(decode_all(BodyDecoder::counted(3, 10), "abcdef", 2, &rest).value(), "abc");
    EXPECT_EQ(rest, "def");
    EXPECT_TRUE(BodyDecoder::none().finished());
}

}  // namespace
}  // namespace kumoi::api
