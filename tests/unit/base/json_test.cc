#include "base/json.h"

#include <gtest/gtest.h>

namespace kumoi {
namespace {

TEST(JsonParse, RefusesWhatIsNotJson) {
    for (const char* text : {"", "{", "[1,]", "{\"a\":}", "nul", "\"\x01\"", "[1] 2", "{'a':1}"}) {
        const auto result = Json::parse(text);
        ASSERT_FALSE(result.ok()) << text;
        EXPECT_NE(result.error().message.find("at byte"), std::string::npos) << text;
    }
}

TEST(JsonParse, RefusesInvalidUtf8) {
    EXPECT_FALSE(Json::parse("\"\xff\"").ok());
    EXPECT_FALSE(Json::parse("\"\xed\xa0\x80\"").ok());  // a lone surrogate
    EXPECT_FALSE(Json::parse(R"("\ude00")").ok());       // the same, escaped
    EXPECT_FALSE(Json::parse(R"({"\ude00":1})").ok());
    EXPECT_EQ(Json::parse("\"\xe9\x9b\xb2\"")->as_string(), "雲");
}

TEST(JsonParse, StopsAtTheDepthLimitWithoutUsingStack) {
    const auto nested = [](size_t depth) {
        return std::string(depth, '[') + std::string(depth, ']');
    };
    EXPECT_TRUE(Json::parse(nested(64)).ok());
    const auto refused = Json::parse(nested(65));
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("64 levels"), std::string::npos);
    EXPECT_FALSE(Json::parse(nested(1'000'000)).ok());
}

TEST(JsonParse, StopsAtTheSizeLimit) {
    EXPECT_EQ(Json::parse("[1,2,3]", {.size_max = 3}).error().code, ErrorCode::TooLarge);
}

TEST(JsonParse, KeepsNumbersExact) {
    EXPECT_EQ(Json::parse("9223372036854775807")->as_int64(), INT64_MAX);
    EXPECT_EQ(Json::parse("18446744073709551615")->dump(), "18446744073709551615");
    EXPECT_EQ(Json::parse("0.1")->as_double(), 0.1);
    EXPECT_EQ(Json::parse("-7")->as_int64(), -7);
    EXPECT_EQ(Json::parse("0e308")->as_double(), 0.0);
    EXPECT_EQ(Json::parse("18446744073709551616")->as_double(), 18446744073709551616.0);
    EXPECT_FALSE(Json::parse("1e999").ok());
}

TEST(JsonParse, FirstOfDuplicateKeysWins) {
    EXPECT_EQ(Json::parse(R"({"a":1,"a":2})")->find("a")->as_int64(), 1);
}

TEST(JsonDump, RoundTripsInOrder) {
    const std::string text = R"({"b":[1,2.5,null,true,"x\n\"y"],"a":{"c":{}}})";
    EXPECT_EQ(Json::parse(text)->dump(), text);
}

TEST(JsonDump, EscapesControlCharacters) {
    EXPECT_EQ(Json(std::string_view("a\x00z", 3)).dump(), "\"a\\u0000z\"");
}

TEST(JsonEquality, IgnoresMemberOrderAndIntegerSign) {
    EXPECT_EQ(*Json::parse(R"({"a":1,"b":2})"), *Json::parse(R"({"b":2,"a":1})"));
    EXPECT_EQ(Json(1), Json(1U));
    EXPECT_FALSE(Json(1) == Json(1.0));
}

TEST(JsonView, ErrorsNameThePath) {
    const Json json =
        *Json::parse(R"({"server":{"name":5,"nets":[{"uuid":"x"},{"uuid":7}],"n":200}})");
    const JsonView server = *JsonView(json).object("server");
    EXPECT_EQ(server.string("name").error().message, "server.name: expected string, got integer");
    EXPECT_EQ(server.string("flavorRef").error().message,
              "server.flavorRef: is required and missing");
    EXPECT_EQ((*server.array("nets"))[1].string("uuid").error().message,
              "server.nets[1].uuid: expected string, got integer");
    EXPECT_EQ(server.integer("n", {1, 100}).error().message, "server.n: 200 is outside 1 to 100");
    EXPECT_EQ(*server.integer_or("absent", 3), 3);
}

TEST(JsonView, UnknownMembersGetASuggestion) {
    const Json json = *Json::parse(R"({"flavorReff":1})");
    const auto refused = JsonView(json).only({"flavorRef", "imageRef"});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().hint, "Did you mean 'flavorRef'?");
}

TEST(Json, SetAddsReplacesAndErases) {
    Json json;
    json.set("a", 1);
    json.set("a", "two");
    json["b"].push_back(true);
    EXPECT_EQ(json.dump(), R"({"a":"two","b":[true]})");
    EXPECT_TRUE(json.erase("a"));
    EXPECT_FALSE(json.erase("a"));
    EXPECT_EQ(json.string_or("a", "gone"), "gone");
}

TEST(Json, AnObjectWithDuplicateKeysEqualsItselfAndNoOther) {
    const Json twice = Json::parse(R"({"a":1,"a":2})").value();
    EXPECT_EQ(twice, Json::parse(twice.dump()).value());
    EXPECT_FALSE(twice == Json::parse(R"({"a":1,"b":2})").value());
    EXPECT_FALSE(Json::parse(R"({"a":1,"b":2})").value() == twice);
    EXPECT_FALSE(twice == Json::parse(R"({"a":2,"a":1})").value());
}

}  // namespace
}  // namespace kumoi
