#include "api/rest/policy.h"

#include <gtest/gtest.h>

namespace kumoi::api {
namespace {

AuthContext caller(const std::string& project, std::vector<std::string> roles) {
    AuthContext who{.user_id = "u1", .project_id = project, .roles = std::move(roles)};
    who.is_admin = who.has_role("admin");
    return who;
}

TEST(Policy, TableOfChecksAndRoles) {
    struct Row {
        Check check;
        const char* own_roles;    // roles, by first letter, that pass in the own project
        const char* other_roles;  // ... for another project's object
    };
    const std::vector<std::pair<char, std::string>> roles{
        {'r', "reader"}, {'m', "member"}, {'g', "manager"}, {'a', "admin"}, {'s', "service"}};
    const std::vector<Row> rows{
        {Check::Any, "rmgas", "rmgas"},
        {Check::Admin, "a", "a"},
        {Check::Service, "s", "s"},
        {Check::ProjectReader, "rmga", ""},
        {Check::ProjectReaderOrAdmin, "rmga", "a"},
        {Check::ProjectMemberOrAdmin, "mga", "a"},
        {Check::ProjectManagerOrAdmin, "ga", "a"},
        {Check::Nobody, "", ""},
    };
    for (const Row& row : rows) {
        for (const auto& [letter, role] : roles) {
            const AuthContext who = caller("p1", {role});
            EXPECT_EQ(passes(row.check, who, {.project_id = "p1"}),
                      std::string(row.own_roles).find(letter) != std::string::npos)
                << check_text(row.check) << ", " << role << ", own project";
            EXPECT_EQ(passes(row.check, who, {.project_id = "p2"}),
                      std::string(row.other_roles).find(letter) != std::string::npos)
                << check_text(row.check) << ", " << role << ", other project";
        }
    }
}

TEST(Policy, AnUnscopedTokenOwnsNoProject) {
    EXPECT_FALSE(passes(Check::ProjectReaderOrAdmin, caller("", {"member"}), {}));
    EXPECT_FALSE(passes(Check::ProjectReaderOrAdmin, caller("", {"member"}), {.project_id = ""}));
}

TEST(Policy, UsersActForThemselves) {
    const AuthContext who = caller("p1", {"member"});
    EXPECT_TRUE(passes(Check::UserOrAdmin, who, {.user_id = "u1"}));
    EXPECT_FALSE(passes(Check::UserOrAdmin, who, {.user_id = "u2"}));
    EXPECT_FALSE(passes(Check::UserOrAdmin, AuthContext(), {.user_id = ""}));
    EXPECT_TRUE(passes(Check::UserOrAdmin, caller("p1", {"admin"}), {.user_id = "u2"}));
}

TEST(Policy, RefusalNamesTheRuleAndTheWayOut) {
    const Policy policy({{"os_compute_api:servers:create", Check::ProjectMemberOrAdmin}});
    const auto refused =
        policy.authorize(caller("p1", {"reader"}), "os_compute_api:servers:create");
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::Forbidden);
    EXPECT_EQ(refused.error().message,
              "Policy doesn't allow os_compute_api:servers:create to be performed.");
    EXPECT_NE(refused.error().hint.find("member"), std::string::npos);
    EXPECT_TRUE(policy.authorize(caller("p1", {"member"}), "os_compute_api:servers:create").ok());
}

TEST(Policy, RulesCanBeReplacedButNotInvented) {
    Policy policy({{"a", Check::Any}});
    EXPECT_EQ(policy.set("b", Check::Any).error().code, ErrorCode::NotFound);
    ASSERT_TRUE(policy.set("a", Check::Admin).ok());
    EXPECT_FALSE(policy.allows(caller("p1", {"member"}), "a"));
    EXPECT_DEATH(policy.allows(caller("p1", {"member"}), "b"), "broken promise");
}

}  // namespace
}  // namespace kumoi::api
