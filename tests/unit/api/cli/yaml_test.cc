#include "api/cli/yaml.h"

#include <gtest/gtest.h>

namespace kumoi::cli {
namespace {

TEST(Yaml, RefusesWhatItDoesNotUnderstand) {
    const std::vector<std::pair<std::string, const char*>> rows{
        {"a: &x 1", "anchors"},
        {"a: *x", "anchors"},
        {"a: !!str 1", "anchors"},
        {"a: |\n  text", "block texts"},
        {"a: 1\na: 2", "given twice"},
        {"a: 1\n  b: 2", "fits nothing"},
        {"a:\n\tb: 1", "tab"},
        {"a: 'x", "does not end"},
        {"a: \"x", "broken"},
        {"a: [1, 2", "as JSON"},
        {"a: 1\n---\nb: 2", "document"},
        {"- 1\nb: 2", "fits nothing"},
        {"a: 'it's'", "twice"},
    };
    for (const auto& [text, why] : rows) {
        const auto parsed = parse_yaml(text);
        ASSERT_FALSE(parsed.ok()) << text;
        EXPECT_NE(parsed.error().message.find(why), std::string::npos) << parsed.error().message;
        EXPECT_NE(parsed.error().message.find("line "), std::string::npos);
    }
}

TEST(Yaml, BoundsDepthAndSize) {
    std::string deep;
    for (size_t level = 0; level < 100; ++level) {
        deep += std::string(level, ' ') + "a:\n";
    }
    EXPECT_NE(parse_yaml(deep).error().message.find("deeply"), std::string::npos);
    EXPECT_EQ(parse_yaml(std::string(2u << 20, '#')).error().code, ErrorCode::TooLarge);
}

TEST(Yaml, ReadsACloudsFile) {
    const auto parsed = parse_yaml(
        "---\n"
        "# where\n"
        "clouds:\n"
        "  lab:   # ours\n"
        "    auth:\n"
        "      auth_url: http://127.0.0.1:5000/v3\n"
        "      username: \"ad\\\"min\"\n"
        "      password: 'it''s # not a comment'\n"
        "      project_name: a#b\n"
        "    regions:\n"
        "    - one\n"
        "    - name: two\n"
        "      values: {\"x\": [1, true]}\n"
        "    verify: false\n"
        "    empty:\n"
        "    nothing: ~\n");
    ASSERT_TRUE(parsed.ok()) << parsed.error().text();
    EXPECT_EQ(parsed.value().dump(),
              R"({"clouds":{"lab":{"auth":{"auth_url":"http://127.0.0.1:5000/v3",)"
              R"("username":"ad\"min","password":"it's # not a comment","project_name":"a#b"},)"
              R"("regions":["one",{"name":"two","values":{"x":[1,true]}}],"verify":false,)"
              R"("empty":null,"nothing":null}}})");
}

TEST(Yaml, NothingIsNull) {
    EXPECT_TRUE(parse_yaml("").value().is_null());
    EXPECT_TRUE(parse_yaml("# only\n\n  # comments\n").value().is_null());
}

}  // namespace
}  // namespace kumoi::cli
