#include "api/cli/output.h"

#include <gtest/gtest.h>

namespace kumoi::cli {
namespace {

const std::vector<Column> kColumns{
    {"NAME", "name"}, {"VCPUS", "flavor.vcpus", true}, {"TASK", "OS-EXT-STS:task_state"}};

Json::Array servers() {
    return {
        Json::parse(R"({"name":"wéb","flavor":{"vcpus":2},"OS-EXT-STS:task_state":null})").value(),
        Json::parse(R"({"name":"a,\"b\"\u001b[31m","flavor":{"vcpus":16}})").value()};
}

std::string list(OutputOptions options) {
    return render_list(options, kColumns, servers()).value();
}

TEST(Output, RefusesAnUnknownColumnAndNamesTheRest) {
    const auto refused =
        render_list({.format = Format::Table, .columns = {"nope"}}, kColumns, servers());
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::InvalidArgument);
    EXPECT_NE(refused.error().hint.find("NAME, VCPUS, TASK"), std::string::npos);
}

TEST(Output, TablesAlignAndCannotBeHijackedByNames) {
    EXPECT_EQ(list({}),
              "NAME        VCPUS  TASK\n"
              "wéb             2  -\n"
              "a,\"b\"?[31m     16  -\n");
}

TEST(Output, JsonKeepsTheKeysOfTheApi) {
    EXPECT_EQ(Json::parse(list({.format = Format::Json})).value(), Json(servers()));
    EXPECT_EQ(
        Json::parse(list({.format = Format::Json, .columns = {"vcpus", "name"}})).value().dump(),
        R"([{"flavor.vcpus":2,"name":"wéb"},{"flavor.vcpus":16,"name":"a,\"b\"\u001B[31m"}])");
}

TEST(Output, CsvQuotesAndValueIsBare) {
    EXPECT_EQ(list({.format = Format::Csv, .columns = {"NAME", "VCPUS"}}),
              "NAME,VCPUS\nwéb,2\n\"a,\"\"b\"\"\x1b[31m\",16\n");
    EXPECT_EQ(list({.format = Format::Value, .columns = {"VCPUS"}}), "2\n16\n");
}

TEST(Output, YamlNestsObjectsAndLists) {
    const Json record =
        Json::parse(R"({"name":"x","list":[{"a":1,"b":{"c":true}},2],"none":[]})").value();
    EXPECT_EQ(render_record({.format = Format::Yaml}, {}, record).value(),
              "\"name\": \"x\"\n\"list\":\n  - \"a\": 1\n    \"b\":\n      \"c\": true\n  - 2\n"
              "\"none\": []\n");
}

TEST(Output, RecordsStandUpright) {
    EXPECT_EQ(render_record({.columns = {"NAME"}}, kColumns, servers().front()).value(),
              "FIELD  VALUE\nNAME   wéb\n");
    EXPECT_EQ(
        render_record({.format = Format::Value, .columns = {"NAME"}}, kColumns, servers().front())
            .value(),
        "wéb\n");
}

}  // namespace
}  // namespace kumoi::cli
