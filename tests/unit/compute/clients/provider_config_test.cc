#include "compute/clients/provider_config.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "compute/clients/yaml_json.h"

namespace kumoi::clients {
namespace {

constexpr char kUuid[] = "11111111-2222-4333-8444-555555555555";

// The example of Nova's documentation, shortened.
constexpr char kExample[] = R"(
meta:
  schema_version: '1.0'
providers:
  # for all compute nodes of this service
  - identification:
      uuid: '$COMPUTE_NODE'
    inventories:
      additional:
        - CUSTOM_EXAMPLE_RESOURCE_CLASS:
            total: 100
            reserved: 0
            min_unit: 1
            max_unit: 10
            step_size: 1
            allocation_ratio: 1.5
        - CUSTOM_OTHER: {total: 2}
    traits:
      additional:
        - CUSTOM_TRAIT_1
        - 'CUSTOM_TRAIT_2'
)";

TEST(YamlToJson, ReadsWhatFilesOfOperatorsHave) {
    const auto json = yaml_to_json(
        "a: 1\nb: [1.5, true, ~, 'true', text, -7]\nc: &x {d: e}\nf: *x\ng: 2026-11-26\n");
    ASSERT_TRUE(json.ok()) << json.error().text();
    EXPECT_EQ(json->dump(),
              R"({"a":1,"b":[1.5,true,null,"true","text",-7],"c":{"d":"e"},"f":{"d":"e"},)"
              R"("g":"2026-11-26"})");
    EXPECT_NE(yaml_to_json("a: b\n c: [").error().message.find("line 2"), std::string::npos);
    EXPECT_FALSE(yaml_to_json("[a]: b").ok());
    EXPECT_TRUE(yaml_to_json("")->is_null());
}

TEST(YamlToJson, AnAliasBombIsRefused) {
    std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
    for (int i = 1; i < 9; ++i) {
        const std::string before = "*a" + std::to_string(i - 1);
        bomb += fmt::format("a{0}: &a{0} [{1}, {1}, {1}, {1}, {1}, {1}, {1}, {1}]\n", i, before);
    }
    EXPECT_EQ(yaml_to_json(bomb).error().code, ErrorCode::TooLarge);
    EXPECT_FALSE(yaml_to_json(std::string(1000, '[') + std::string(1000, ']')).ok());
    EXPECT_FALSE(yaml_to_json("a: &a [*a]").ok());  // itself
}

TEST(ProviderConfig, AddsToTheNodesProvider) {
    const auto configs = parse_provider_config(kExample, "example.yaml");
    ASSERT_TRUE(configs.ok()) << configs.error().text();
    WantedProvider root;
    root.uuid = kUuid;
    root.name = "cn1";
    root.traits = {"COMPUTE_NODE"};
    root.inventories["VCPU"].total = 4;
    ASSERT_TRUE(merge_provider_configs(*configs, root)->empty());
    EXPECT_EQ(root.traits, (Traits{"COMPUTE_NODE", "CUSTOM_TRAIT_1", "CUSTOM_TRAIT_2"}));
    EXPECT_EQ(root.inventories.size(), 3u);
    const Inventory& example = root.inventories.at("CUSTOM_EXAMPLE_RESOURCE_CLASS");
    EXPECT_EQ(example.total, 100);
    EXPECT_EQ(example.max_unit, 10);
    EXPECT_EQ(example.allocation_ratio, 1.5);
    EXPECT_EQ(root.inventories.at("CUSTOM_OTHER").max_unit, 2'147'483'647);
}

std::string one(const std::string& identification,
                const std::string& rest = "    traits: {additional: [CUSTOM_T]}\n") {
    return "meta: {schema_version: '1.0'}\nproviders:\n  - identification: {" + identification +
           "}\n" + rest;
}

TEST(ProviderConfig, ANamedProviderGoesBeforeAllNodes) {
    const auto load = [](const std::string& text) {
        return parse_provider_config(text, "f.yaml").value();
    };
    WantedProvider root;
    root.uuid = kUuid;
    root.name = "cn1";
    ProviderConfigs configs = load(kExample);
    configs.push_back(load(one("name: cn1"))[0]);
    configs.push_back(load(one("name: elsewhere"))[0]);
    EXPECT_EQ(merge_provider_configs(configs, root).value(), std::set<std::string>{"elsewhere"});
    EXPECT_EQ(root.traits, Traits{"CUSTOM_T"});
    EXPECT_TRUE(root.inventories.empty());
    configs.push_back(load(one(std::string("uuid: ") + kUuid))[0]);
    const auto twice = merge_provider_configs(configs, root);
    ASSERT_FALSE(twice.ok());
    EXPECT_NE(twice.error().message.find("both name 'cn1' and uuid"), std::string::npos);
}

TEST(ProviderConfig, WhatDoesNotFitIsRefusedByName) {
    const auto expect = [](const std::string& text, const std::string& why) {
        const auto refused = parse_provider_config(text, "bad.yaml");
        ASSERT_FALSE(refused.ok()) << text;
        EXPECT_EQ(refused.error().fault, "ProviderConfigException");
        EXPECT_NE(refused.error().message.find(why), std::string::npos) << refused.error().text();
        EXPECT_NE(refused.error().message.find("bad.yaml"), std::string::npos);
    };
    expect("a: [", "Not YAML");
    expect("providers: []", "schema version");
    expect("meta: {schema_version: 1.0}", "schema version");  // a number
    expect("meta: {schema_version: '2.0'}", "Unsupported schema version: 2.0");
    expect("meta: {schema_version: '1.x'}", "Unsupported");
    expect("meta: {schema_version: '1.0'}\nproviders: {}", "no list");
    expect(one("name: a, uuid: " + std::string(kUuid)), "identification");
    expect(one("uuid: cn1"), "identification");
    expect(one("host: cn1"), "identification");
    expect(one("name: a", "    traits: {additional: [HW_CPU_X86_AVX]}\n"), "HW_CPU_X86_AVX");
    expect(one("name: a", "    traits: {additional: CUSTOM_T}\n"), "additional");
    const auto inventory = [](const std::string& text) {
        return one("name: a", "    inventories: {additional: [{" + text + "}]}\n");
    };
    expect(inventory("VCPU: {total: 1}"), "only custom resource classes");
    expect(inventory("CUSTOM_x: {total: 1}"), "CUSTOM_x");
    expect(inventory("CUSTOM_A: {reserved: 1}"), "'total' of CUSTOM_A");
    expect(inventory("CUSTOM_A: {total: many}"), "'total' of CUSTOM_A");
    expect(inventory("CUSTOM_A: {total: 1, colour: 2}"), "'colour' of CUSTOM_A");
}

TEST(ProviderConfig, AFoldersFilesAreReadTogether) {
    const auto directory = TemporaryDirectory::create("providers").value();
    EXPECT_TRUE(load_provider_configs(directory.path() + "/none")->empty());
    ASSERT_TRUE(write_file_atomic(directory.path() + "/a.yaml", kExample).ok());
    ASSERT_TRUE(write_file_atomic(directory.path() + "/b.yaml", one("name: cn1")).ok());
    ASSERT_TRUE(write_file_atomic(directory.path() + "/c.yml", "not: read").ok());
    ASSERT_TRUE(write_file_atomic(directory.path() + "/d.yaml",
                                  "meta: {schema_version: '1.7'}\nnew: thing\n")
                    .ok());
    EXPECT_EQ(load_provider_configs(directory.path())->size(), 2u);
    ASSERT_TRUE(write_file_atomic(directory.path() + "/e.yaml", kExample).ok());
    const auto twice = load_provider_configs(directory.path());
    ASSERT_FALSE(twice.ok());
    EXPECT_NE(twice.error().message.find("a.yaml, e.yaml"), std::string::npos);
}

}  // namespace
}  // namespace kumoi::clients
