#include "api/http/url.h"

#include <gtest/gtest.h>

namespace kumoi::api {
namespace {

using Segments = std::vector<std::string>;

TEST(ParseTarget, RefusesWhatItCannotDecode) {
    for (const char* target :
         {"/%", "/%4", "/%zz", "/%00", "/a?b=%", "/a?%ff=1", "/%ff", "/%c0%af", "/%ed%a0%80", "",
          "a", "a/b", "http://", "http:///x", "ftp://host/x", "host:80", "/a#fragment"}) {
        EXPECT_FALSE(parse_target(target).ok()) << target;
    }
}

TEST(ParseTarget, LimitsSegmentsAndParameters) {
    std::string path;
    for (size_t index = 0; index < kPathSegmentCountMax + 1; ++index) {
        path += "/a";
    }
    EXPECT_FALSE(parse_target(path).ok());
    EXPECT_TRUE(parse_target(path.substr(2)).ok());
    std::string query = "/?";
    for (size_t index = 0; index < kQueryParameterCountMax + 1; ++index) {
        query += "a=1&";
    }
    EXPECT_FALSE(parse_target(query).ok());
}

TEST(ParseTarget, DecodesSegmentsAndDropsOneTrailingSlash) {
    EXPECT_EQ(parse_target("/")->segments, Segments{});
    EXPECT_EQ(parse_target("/a/b/")->segments, (Segments{"a", "b"}));
    EXPECT_EQ(parse_target("/a//b")->segments, (Segments{"a", "", "b"}));
    EXPECT_EQ(parse_target("/a%2Fb/c+d/%E4%BA%91")->segments,
              (Segments{"a/b", "c+d", "\xe4\xba\x91"}));
}

TEST(ParseTarget, KeepsQueryParametersInOrderWithRepeats) {
    const auto target = parse_target("/x?b=1&a=2&b=3&&c&d=e=f&plus=1+2");
    ASSERT_TRUE(target.ok());
    EXPECT_EQ(target.value().query.all("b"), (Segments{"1", "3"}));
    EXPECT_EQ(target.value().query.first("c"), "");
    EXPECT_EQ(target.value().query.first("d"), "e=f");
    EXPECT_EQ(target.value().query.first("plus"), "1 2");
    EXPECT_EQ(target.value().query.first("missing"), std::nullopt);
    EXPECT_EQ(target.value().query.encode(), "b=1&a=2&b=3&c=&d=e%3Df&plus=1%202");
}

TEST(ParseTarget, TakesAbsoluteFormAndAsterisk) {
    const auto absolute = parse_target("http://host:80?x=1");
    ASSERT_TRUE(absolute.ok());
    EXPECT_EQ(absolute.value().authority, "host:80");
    EXPECT_EQ(absolute.value().path, "/");
    EXPECT_EQ(absolute.value().query.first("x"), "1");
    EXPECT_EQ(parse_target("*")->path, "*");
}

TEST(PercentCoding, RoundTripsEveryByte) {
    std::string all;
    for (int byte = 0; byte < 256; ++byte) {
        all += static_cast<char>(byte);
    }
    EXPECT_EQ(percent_decode(percent_encode(all)), all);
    EXPECT_EQ(percent_encode("a b/c~"), "a%20b%2Fc~");
}

}  // namespace
}  // namespace kumoi::api
