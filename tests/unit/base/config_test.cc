#include "base/config.h"

#include <gtest/gtest.h>

namespace kumoi {
namespace {

OptionTable table() {
    OptionTable options;
    options.add({"DEFAULT", "host", OptionType::String, "node-1", "Name of the node."});
    options.add({"DEFAULT", "transport_url", OptionType::String, "", "Where RabbitMQ is."});
    options.add(
        {"compute", "max_concurrent_builds", OptionType::Integer, "10", "Builds at once.", 1, 100});
    options.add({"compute", "ratio", OptionType::Float, "1.5", "A ratio."});
    options.add({"compute", "debug", OptionType::Boolean, "false", "Says more."});
    options.add({"api", "listen", OptionType::HostPort, "127.0.0.1:8774", "Where to listen."});
    options.add({"api", "filters", OptionType::List, "a, b", "Filters."});
    options.add({"pci", "alias", OptionType::Multi, "", "Aliases."});
    options.add({"api", "mode", OptionType::String, "fast", "Mode.", {}, {}, {"fast", "slow"}});
    return options;
}

TEST(Config, DefaultsHoldWithoutAFile) {
    const OptionTable options = table();
    const Config config = Config::defaults(options);
    EXPECT_EQ(config.string("DEFAULT", "host"), "node-1");
    EXPECT_EQ(config.integer("compute", "max_concurrent_builds"), 10);
    EXPECT_EQ(config.floating("compute", "ratio"), 1.5);
    EXPECT_FALSE(config.boolean("compute", "debug"));
    EXPECT_EQ(config.list("api", "filters"), (std::vector<std::string>{"a", "b"}));
    EXPECT_TRUE(config.list("pci", "alias").empty());
}

TEST(Config, ReadsOsloSyntax) {
    const OptionTable options = table();
    const std::string url = "rabbit://u:p@" + std::string(300, 'h') + ":5672//";
    const auto config =
        Config::parse("host: cn-2\n# comment\n; another\ntransport_url = " + url +
                          "\n[compute]\ndebug = Yes\n[api]\nfilters = x,\n   y\n"
                          "[pci]\nalias = one\nalias = two\n[default]\nhost = cn-3\n",
                      options);
    ASSERT_TRUE(config.ok()) << config.error().text();
    EXPECT_EQ(config->string("DEFAULT", "host"), "cn-3");
    EXPECT_EQ(config->string("DEFAULT", "transport_url"), url);
    EXPECT_TRUE(config->boolean("compute", "debug"));
    EXPECT_EQ(config->list("api", "filters"), (std::vector<std::string>{"x", "y"}));
    EXPECT_EQ(config->list("pci", "alias"), (std::vector<std::string>{"one", "two"}));
}

struct Refusal {
    const char* text;
    const char* message;
    const char* hint;
};

class ConfigRefuses : public testing::TestWithParam<Refusal> {};

TEST_P(ConfigRefuses, WithMessageAndHint) {
    const OptionTable options = table();
    const auto config = Config::parse(GetParam().text, options, "kumoi.conf");
    ASSERT_FALSE(config.ok());
    EXPECT_EQ(config.error().message, GetParam().message);
    EXPECT_EQ(config.error().hint, GetParam().hint);
}

INSTANTIATE_TEST_SUITE_P(
    All, ConfigRefuses,
    testing::Values(
        Refusal{"hosst = x", "kumoi.conf: there is no option hosst in section [DEFAULT]",
                "Did you mean host?"},
        Refusal{"[computee]\nx = 1", "kumoi.conf: there is no section [computee]",
                "Did you mean [compute]?"},
        Refusal{"[api]\ndebug = 1", "kumoi.conf: there is no option debug in section [api]",
                "debug belongs into section [compute]."},
        Refusal{"[compute]\nmax_concurrent_builds = 0",
                "kumoi.conf: [compute] max_concurrent_builds is 0, outside its range: 1 to 100",
                ""},
        Refusal{"[compute]\nmax_concurrent_builds = ten",
                "kumoi.conf: [compute] max_concurrent_builds is 'ten', which is not an integer",
                ""},
        Refusal{"[compute]\ndebug = maybe",
                "kumoi.conf: [compute] debug is 'maybe', which is neither true nor false", ""},
        Refusal{"[api]\nlisten = 8774",
                "kumoi.conf: [api] listen is '8774', which is not address:port",
                "For example 127.0.0.1:8774."},
        Refusal{"[api]\nmode = medium", "kumoi.conf: [api] mode is 'medium'; it can be: fast, slow",
                ""},
        Refusal{"[api\nmode = fast", "kumoi.conf: '[api' opens a section and does not close it",
                ""},
        Refusal{"rubbish", "kumoi.conf: 'rubbish' is neither a [section] nor 'key = value'", ""}));

TEST(Config, SampleOfAllOptionsParsesBack) {
    const OptionTable options = table();
    std::string sample = options.sample();
    EXPECT_NE(
        sample.find("# Builds at once.\n# Type: integer, 1 to 100\n#max_concurrent_builds = 10\n"),
        std::string::npos)
        << sample;
    EXPECT_TRUE(Config::parse(sample, options).ok());
}

TEST(Config, ASharedFileMayHoldWhatOthersRead) {
    const OptionTable options = table();
    std::vector<std::string> unknown;
    const auto config = Config::parse_shared(
        "host = cn1\nmy_ip = 192.0.2.1\ntransport_url = rabbit://$host:5672/${api.mode}\n"
        "[libvirt]\nvirt_type = kvm\n[compute]\nratio = <None>\nmax_concurrent_builds =\n"
        "[api]\nlisten = $host:80\nfilters = $nothing, ${DEFAULT.host, $$\n[pci]\nalias =\n",
        options, unknown);
    ASSERT_TRUE(config.ok()) << config.error().text();
    EXPECT_EQ(unknown, (std::vector<std::string>{"[DEFAULT] my_ip", "[libvirt] virt_type"}));
    EXPECT_EQ(config->string("DEFAULT", "transport_url"), "rabbit://cn1:5672/fast");
    EXPECT_EQ(config->string("api", "listen"), "cn1:80");
    EXPECT_EQ(config->list("api", "filters"),
              (std::vector<std::string>{"$nothing", "${DEFAULT.host", "$$"}));
    EXPECT_EQ(config->floating("compute", "ratio"), 1.5);
    EXPECT_EQ(config->integer("compute", "max_concurrent_builds"), 10);
    const auto endless = Config::parse_shared("host = $transport_url\ntransport_url = $host$host\n",
                                              options, unknown);
    ASSERT_TRUE(endless.ok());
    EXPECT_LT(endless->string("DEFAULT", "host").size(), 100'000u);
    EXPECT_FALSE(Config::parse_shared("[compute]\nratio = x\n", options, unknown).ok());
}

TEST(Config, SetIsCheckedLikeTheFile) {
    const OptionTable options = table();
    Config config = Config::defaults(options);
    EXPECT_FALSE(config.set("compute", "max_concurrent_builds", "1000").ok());
    EXPECT_TRUE(config.set("compute", "max_concurrent_builds", "20").ok());
    EXPECT_EQ(config.integer("compute", "max_concurrent_builds"), 20);
}

}  // namespace
}  // namespace kumoi
