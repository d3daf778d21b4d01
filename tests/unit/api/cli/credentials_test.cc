#include "api/cli/credentials.h"

#include <gtest/gtest.h>

#include <map>

#include "base/file.h"

namespace kumoi::cli {
namespace {

using Variables = std::map<std::string, std::string>;

Environment environment(Variables variables) {
    return [variables = std::move(variables)](const std::string& name) {
        const auto found = variables.find(name);
        return found == variables.end() ? std::optional<std::string>()
                                        : std::optional(found->second);
    };
}

const Variables kAnn{{"OS_AUTH_URL", "http://k:5000/v3"},
                     {"OS_USERNAME", "ann"},
                     {"OS_PASSWORD", "pw"},
                     {"OS_PROJECT_NAME", "blue"},
                     {"OS_USER_DOMAIN_NAME", "Default"},
                     {"OS_PROJECT_DOMAIN_ID", "default"}};

TEST(Credentials, SayWhatIsMissing) {
    EXPECT_EQ(credentials_from_environment(environment({})).error().code,
              ErrorCode::InvalidArgument);
    Variables half = kAnn;
    half.erase("OS_PASSWORD");
    const auto refused = credentials_from_environment(environment(half));
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().hint.find("OS_PASSWORD"), std::string::npos);
    const auto none =
        find_credentials({.cloud = {}, .state_path = "/nowhere", .environment = environment({})});
    EXPECT_EQ(none.error().code, ErrorCode::Unauthenticated);
}

TEST(Credentials, EnvironmentBecomesAPasswordLogin) {
    const auto found = credentials_from_environment(environment(kAnn)).value();
    EXPECT_EQ(auth_body(found).dump(),
              R"({"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"ann",)"
              R"("domain":{"name":"Default"},"password":"pw"}}},)"
              R"("scope":{"project":{"name":"blue","domain":{"id":"default"}}}}})");
}

TEST(Credentials, ApplicationCredentialsBringNoScope) {
    Variables variables = kAnn;
    variables["OS_APPLICATION_CREDENTIAL_ID"] = "c1";
    variables["OS_APPLICATION_CREDENTIAL_SECRET"] = "s";
    const auto found = credentials_from_environment(environment(variables)).value();
    EXPECT_EQ(auth_body(found).dump(),
              R"({"auth":{"identity":{"methods":["application_credential"],)"
              R"("application_credential":{"secret":"s","id":"c1"}}}})");
}

TEST(Credentials, CloudsAreFoundByNameAndSuggested) {
    const auto directory = TemporaryDirectory::create("cli").value();
    const std::string file = directory.path() + "/clouds.yaml";
    ASSERT_TRUE(write_file_atomic(file,
                                  "clouds:\n  lab:\n    auth:\n      auth_url: http://lab:5000\n"
                                  "      username: ann\n      password: pw\n"
                                  "    region_name: R1\n    interface: internal\n")
                    .ok());
    const auto from = [&](const std::string& cloud) {
        return find_credentials({.cloud = cloud,
                                 .state_path = "/nowhere",
                                 .environment = environment({{"OS_CLIENT_CONFIG_FILE", file}})});
    };
    const auto lab = from("lab").value();
    EXPECT_EQ(lab.auth_url, "http://lab:5000");
    EXPECT_EQ(lab.region, "R1");
    EXPECT_EQ(lab.interface, "internal");
    const auto typo = from("lub");
    EXPECT_EQ(typo.error().code, ErrorCode::NotFound);
    EXPECT_NE(typo.error().hint.find("lab"), std::string::npos);
}

TEST(Credentials, RootOnTheHostNeedsNothing) {
    const auto directory = TemporaryDirectory::create("cli").value();
    ASSERT_TRUE(
        write_file_atomic(directory.path() + "/clouds.yaml",
                          "clouds:\n  kumoi:\n    auth:\n      auth_url: \"http://h:5000/v3\"\n"
                          "      username: \"admin\"\n      password: \"p w\"\n")
            .ok());
    const auto found = find_credentials(
        {.cloud = {}, .state_path = directory.path(), .environment = environment({})});
    EXPECT_EQ(found.value().password, "p w");
}

}  // namespace
}  // namespace kumoi::cli
