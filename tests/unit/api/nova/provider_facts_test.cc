#include "api/nova/provider_facts.h"

#include <gtest/gtest.h>

#include "compute/options.h"

namespace kumoi::nova {
namespace {

Config config_of(const std::string& text) {
    auto config = Config::parse(text, compute::options());
    EXPECT_TRUE(config.ok()) << config.error().text();
    return std::move(*config);
}

TEST(ProviderFacts, NameTheFlagsThatAreTraits) {
    const auto traits = cpu_traits(
        R"({"features":["sse4_2","pni","fma","aes","made_up","rtm"],"topology":{"threads":2}})");
    EXPECT_EQ(traits,
              (clients::Traits{"HW_CPU_X86_SSE42", "HW_CPU_X86_SSE3", "HW_CPU_X86_FMA3",
                               "HW_CPU_X86_AESNI", "HW_CPU_X86_TSX", "HW_CPU_HYPERTHREADING"}));
    EXPECT_TRUE(cpu_traits("").empty());
    EXPECT_TRUE(cpu_traits(R"({"features":[1],"topology":{"threads":1}})").empty());
}

TEST(ProviderFacts, DivideProcessorsAsNovaDoes) {
    struct Case {
        std::string text;
        int64_t shared, dedicated;
    };
    for (const Case& one : {Case{"", 8, 0}, Case{"[compute]\ncpu_shared_set = 0-3\n", 4, 0},
                            Case{"[compute]\ncpu_dedicated_set = 4-7,^5\n", 0, 3},
                            Case{"[compute]\ncpu_shared_set=0,1\ncpu_dedicated_set=2-7\n", 2, 6}}) {
        const auto shares = processor_shares(config_of(one.text), 8);
        ASSERT_TRUE(shares.ok()) << one.text;
        EXPECT_EQ(shares->shared, one.shared) << one.text;
        EXPECT_EQ(shares->dedicated, one.dedicated) << one.text;
    }
    EXPECT_FALSE(processor_shares(config_of("[compute]\ncpu_shared_set = x\n"), 8).ok());
}

}  // namespace
}  // namespace kumoi::nova
