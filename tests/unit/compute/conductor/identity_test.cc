#include "compute/conductor/identity.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/file.h"
#include "compute/conductor/identity_bootstrap.h"
#include "tests/support/quick_hashing.h"

namespace kumoi::compute::identity {
namespace {

class IdentityTest : public testing::Test {
protected:
    void SetUp() override {
        database_ = Database::open(":memory:").value();
        identity_ = Identity::create(
                        *database_, clock_, random_,
                        {.token_seconds = 3600, .hashing = {test::quick_hash, test::quick_matches}})
                        .value();
        ASSERT_TRUE(bootstrap(*identity_, options_).ok());
        project_ = identity_->store().create_project({.name = "blue"}).value();
        user_ = identity_->create_user({.name = "ann"}, "pw").value();
        grant("member");
    }
    std::string role(const std::string& name) {
        return identity_->store().role_by_name(name).value()->id;
    }
    Assignment assignment(const std::string& role_name) {
        return {{TargetKind::Project, project_.id}, user_.id, role(role_name)};
    }
    void grant(const std::string& role_name) {
        ASSERT_TRUE(identity_->grants().grant(assignment(role_name)).ok());
    }
    AuthRequest password_request(const std::string& name, const std::string& password) {
        AuthRequest request;
        request.password = PasswordMethod{{.id = {}, .name = name}, password};
        return request;
    }
    AuthRequest scoped(AuthRequest request) {
        request.scope = ScopeKind::Project;
        request.project.name = "blue";
        return request;
    }
    std::string login() {
        return identity_->authenticate(scoped(password_request("ann", "pw"))).value().secret;
    }
    bool valid(const std::string& secret) { return identity_->tokens().validate(secret).ok(); }
    static std::string names(const std::vector<Role>& roles) {
        std::string out;
        for (const Role& role : roles) {
            out += role.name + " ";
        }
        return out;
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("identity").value();
    BootstrapOptions options_{.state_path = directory_.path(),
                              .admin_password = "root",
                              .auth_url = "http://127.0.0.1:5000/v3",
                              .catalog = {{"compute", "nova", "http://127.0.0.1:8774/v2.1"}}};
    ManualClock clock_;
    SeededRandom random_{1};
    std::unique_ptr<Database> database_;
    std::unique_ptr<Identity> identity_;
    Project project_;
    User user_;
};

TEST_F(IdentityTest, WrongUserPasswordAndProjectLookTheSame) {
    const std::vector<AuthRequest> requests{
        password_request("ann", "wrong"), password_request("nobody", "pw"),
        [&] {
            AuthRequest request = scoped(password_request("ann", "pw"));
            request.project.name = "red";
            return request;
        }(),
        [&] {
            AuthRequest request = password_request("ann", "pw");
            request.scope = ScopeKind::System;
            return request;
        }()};
    std::vector<std::string> texts;
    for (const AuthRequest& request : requests) {
        const auto outcome = identity_->authenticate(request);
        ASSERT_FALSE(outcome.ok());
        EXPECT_EQ(outcome.error().code, ErrorCode::Unauthenticated);
        texts.push_back(outcome.error().text());
    }
    for (const std::string& text : texts) {
        EXPECT_EQ(text, texts.front());
    }
}

TEST_F(IdentityTest, GuessingIsSlowedDownForKnownAndUnknownNames) {
    for (const std::string name : {"ann", "nobody"}) {
        for (int attempt = 0; attempt < 5; ++attempt) {
            EXPECT_EQ(identity_->authenticate(password_request(name, "x")).error().code,
                      ErrorCode::Unauthenticated);
        }
        const auto refused = identity_->authenticate(password_request(name, "pw"));
        ASSERT_FALSE(refused.ok());
        EXPECT_EQ(refused.error().fault, "TooManyRequests");
        EXPECT_NE(refused.error().hint.find("1 s"), std::string::npos);
    }
    clock_.advance(1 * kNanosPerSecond);
    EXPECT_FALSE(identity_->authenticate(password_request("ann", "x")).ok());
    clock_.advance(1 * kNanosPerSecond);
    EXPECT_EQ(identity_->authenticate(password_request("ann", "pw")).error().fault,
              "TooManyRequests");  // two seconds by now
    clock_.advance(1 * kNanosPerSecond);
    EXPECT_TRUE(identity_->authenticate(password_request("ann", "pw")).ok());
    EXPECT_EQ(identity_->authenticate(password_request("ann", "x")).error().code,
              ErrorCode::Unauthenticated);  // a success forgets
}

TEST_F(IdentityTest, TokensExpire) {
    const std::string secret = login();
    clock_.advance(3599 * kNanosPerSecond);
    EXPECT_TRUE(valid(secret));
    clock_.advance(1 * kNanosPerSecond);
    EXPECT_FALSE(valid(secret));
    EXPECT_EQ(identity_->tokens().remove_expired().value(), 1);
}

TEST_F(IdentityTest, TokensEndWithWhatTheyStandFor) {
    struct Row {
        const char* what;
        std::function<void()> act;
        std::function<void()> undo;
    };
    const auto set_user = [&](bool enabled) {
        ASSERT_TRUE(identity_->store()
                        .update_user(user_.id,
                                     [&](User& user) -> Result<void> {
                                         user.enabled = enabled;
                                         return {};
                                     })
                        .ok());
    };
    const auto set_project = [&](bool enabled) {
        ASSERT_TRUE(identity_->store()
                        .update_project(project_.id,
                                        [&](Project& project) -> Result<void> {
                                            project.enabled = enabled;
                                            return {};
                                        })
                        .ok());
    };
    const std::vector<Row> rows{
        {"password change", [&] { ASSERT_TRUE(identity_->set_password(user_.id, "pw").ok()); },
         [] {}},
        {"user disabled", [&] { set_user(false); }, [&] { set_user(true); }},
        {"project disabled", [&] { set_project(false); }, [&] { set_project(true); }},
        {"role revoked",
         [&] { ASSERT_TRUE(identity_->grants().revoke(assignment("member")).ok()); },
         [&] { grant("member"); }},
        {"project deleted",
         [&] { ASSERT_TRUE(identity_->store().remove_project(project_.id).ok()); },
         [&] {
             project_ = identity_->store().create_project({.name = "blue"}).value();
             grant("member");
         }},
        {"user deleted", [&] { ASSERT_TRUE(identity_->store().remove_user(user_.id).ok()); },
         [] {}},
    };
    for (const Row& row : rows) {
        const std::string secret = login();
        ASSERT_TRUE(valid(secret)) << row.what;
        row.act();
        EXPECT_FALSE(valid(secret)) << row.what;
        row.undo();
    }
}

TEST_F(IdentityTest, RolesOfALivingTokenFollowTheGrants) {
    const std::string secret = login();
    EXPECT_EQ(names(identity_->tokens().validate(secret).value()->roles), "member reader ");
    grant("admin");
    EXPECT_EQ(names(identity_->tokens().validate(secret).value()->roles),
              "admin manager member reader ");
    ASSERT_TRUE(identity_->grants().revoke(assignment("admin")).ok());
    EXPECT_EQ(names(identity_->tokens().validate(secret).value()->roles), "member reader ");
}

TEST_F(IdentityTest, RevocationIsFinalAndKnowsUnknownTokens) {
    const std::string secret = login();
    ASSERT_TRUE(valid(secret));
    ASSERT_TRUE(identity_->tokens().revoke(secret).ok());
    EXPECT_FALSE(valid(secret));
    EXPECT_EQ(identity_->tokens().revoke(secret).error().code, ErrorCode::NotFound);
}

TEST_F(IdentityTest, TheDatabaseHoldsNoUsableToken) {
    const std::string secret = login();
    const auto rows = database_->read(
        [](SqlSession& sql) { return sql.query("SELECT hash FROM identity_tokens"); });
    for (const SqlRow& row : rows.value()) {
        EXPECT_NE(row.text(0), secret);
        EXPECT_FALSE(valid(row.text(0)));
    }
}

TEST_F(IdentityTest, ATokenOfATokenLivesNoLonger) {
    const auto first = identity_->authenticate(password_request("ann", "pw")).value();
    EXPECT_FALSE(first.token->project.has_value());
    EXPECT_TRUE(first.token->roles.empty());
    clock_.advance(600 * kNanosPerSecond);
    AuthRequest request;
    request.token = first.secret;
    const auto second = identity_->authenticate(scoped(request)).value();
    EXPECT_EQ(second.token->project->name, "blue");
    EXPECT_EQ(second.token->expires_ns, first.token->expires_ns);
    EXPECT_EQ(second.token->methods, (std::vector<std::string>{"password", "token"}));
    EXPECT_EQ(second.token->audit_ids.at(1), first.token->audit_ids.at(0));
}

TEST_F(IdentityTest, DefaultProjectIsUsedWhileItIsUsable) {
    ASSERT_TRUE(identity_->store()
                    .update_user(user_.id,
                                 [&](User& user) -> Result<void> {
                                     user.default_project_id = project_.id;
                                     return {};
                                 })
                    .ok());
    EXPECT_TRUE(identity_->authenticate(password_request("ann", "pw")).value().token->project);
    ASSERT_TRUE(identity_->grants().revoke(assignment("member")).ok());
    EXPECT_FALSE(identity_->authenticate(password_request("ann", "pw")).value().token->project);
}

class AppCredentialTest : public IdentityTest {
protected:
    AuthRequest request_with(const std::string& id, const std::string& secret) {
        AuthRequest request;
        request.app_credential = AppCredentialMethod{{.id = id, .name = {}}, {}, secret};
        return request;
    }
    std::pair<AppCredential, std::string> make(NewAppCredential wanted) {
        const auto token = identity_->tokens().validate(login()).value();
        return identity_->create_app_credential(*token, wanted).value();
    }
};

TEST_F(AppCredentialTest, RefusesWrongSecretsForeignRolesAndThePast) {
    const auto [credential, secret] = make({.name = "ci"});
    EXPECT_FALSE(identity_->authenticate(request_with(credential.id, "wrong")).ok());
    EXPECT_FALSE(identity_->authenticate(request_with("unknown", secret)).ok());
    const auto token = identity_->tokens().validate(login()).value();
    EXPECT_EQ(identity_->create_app_credential(*token, {.name = "ci"}).error().code,
              ErrorCode::Conflict);
    EXPECT_EQ(
        identity_
            ->create_app_credential(*token, {.name = "x", .roles = {{.id = {}, .name = "admin"}}})
            .error()
            .code,
        ErrorCode::InvalidArgument);
    EXPECT_EQ(
        identity_->create_app_credential(*token, {.name = "x", .expires_ns = clock_.wall_ns()})
            .error()
            .code,
        ErrorCode::InvalidArgument);
}

TEST_F(AppCredentialTest, CarriesOnlyTheRolesItNamesAndTheUserStillHolds) {
    const auto [credential, secret] = make({.name = "ro", .roles = {{.id = {}, .name = "reader"}}});
    const auto issued = identity_->authenticate(request_with(credential.id, secret)).value();
    EXPECT_EQ(names(issued.token->roles), "reader ");
    EXPECT_EQ(issued.token->project->id, project_.id);
    ASSERT_TRUE(identity_->grants().revoke(assignment("member")).ok());
    EXPECT_FALSE(valid(issued.secret));
    EXPECT_FALSE(identity_->authenticate(request_with(credential.id, secret)).ok());
}

TEST_F(AppCredentialTest, EndsWithItsExpiryAndItsDeletion) {
    const auto [brief, brief_secret] =
        make({.name = "brief", .expires_ns = clock_.wall_ns() + 60 * kNanosPerSecond});
    const auto [kept, kept_secret] = make({.name = "kept"});
    const auto from_brief = identity_->authenticate(request_with(brief.id, brief_secret)).value();
    const auto from_kept = identity_->authenticate(request_with(kept.id, kept_secret)).value();
    clock_.advance(60 * kNanosPerSecond);
    EXPECT_FALSE(valid(from_brief.secret));
    EXPECT_FALSE(identity_->authenticate(request_with(brief.id, brief_secret)).ok());
    EXPECT_TRUE(valid(from_kept.secret));
    ASSERT_TRUE(identity_->app_credentials().remove(user_.id, kept.id).ok());
    EXPECT_FALSE(valid(from_kept.secret));
}

TEST_F(AppCredentialTest, CannotBeRescopedNorShedItsLimitsThroughAToken) {
    const auto red = identity_->store().create_project({.name = "red"}).value();
    ASSERT_TRUE(
        identity_->grants().grant({{TargetKind::Project, red.id}, user_.id, role("member")}).ok());
    const auto [credential, secret] = make({.name = "ro", .roles = {{.id = {}, .name = "reader"}}});
    AuthRequest elsewhere = request_with(credential.id, secret);
    elsewhere.scope = ScopeKind::Project;
    elsewhere.project.name = "red";
    EXPECT_EQ(identity_->authenticate(elsewhere).error().code, ErrorCode::Forbidden);

    AuthRequest again;
    again.token = identity_->authenticate(request_with(credential.id, secret)).value().secret;
    const auto second = identity_->authenticate(again).value();
    EXPECT_EQ(names(second.token->roles), "reader ");
    ASSERT_TRUE(second.token->app_credential.has_value());
    again.scope = ScopeKind::Project;
    again.project.name = "red";
    EXPECT_EQ(identity_->authenticate(again).error().code, ErrorCode::Forbidden);
}

TEST_F(IdentityTest, ImplicationsMayNotRunInACircle) {
    EXPECT_EQ(identity_->grants().imply({role("reader"), role("admin")}).error().code,
              ErrorCode::Conflict);
    EXPECT_EQ(identity_->grants().imply({role("reader"), role("reader")}).error().code,
              ErrorCode::Conflict);
}

TEST_F(IdentityTest, BootstrapWritesPrivateFilesOnceAndKeepsThePassword) {
    struct stat info {};
    for (const char* name : {"/admin-openrc", "/clouds.yaml"}) {
        ASSERT_EQ(stat((directory_.path() + name).c_str(), &info), 0);
        EXPECT_EQ(info.st_mode & 0777, 0600u);
    }
    const std::string openrc = read_file(directory_.path() + "/admin-openrc").value();
    EXPECT_NE(openrc.find("OS_PASSWORD='root'"), std::string::npos);
    options_.admin_password = "other";
    ASSERT_TRUE(bootstrap(*identity_, options_).ok());
    EXPECT_EQ(read_file(directory_.path() + "/admin-openrc").value(), openrc);
    const auto issued = identity_->authenticate(password_request("admin", "root")).value();
    EXPECT_EQ(issued.token->project->name, "admin");
    EXPECT_EQ(names(issued.token->roles), "admin manager member reader ");
}

TEST_F(IdentityTest, BootstrapGivesALostAdministratorBackAndRespectsARenamedOne) {
    const User admin = *identity_->store().user_by_name("admin").value();
    ASSERT_TRUE(identity_->store()
                    .update_user(admin.id,
                                 [](User& user) -> Result<void> {
                                     user.name = "root";
                                     return {};
                                 })
                    .ok());
    ASSERT_TRUE(bootstrap(*identity_, options_).ok());
    EXPECT_FALSE(identity_->store().user_by_name("admin").value().has_value());
    ASSERT_TRUE(identity_->store().remove_user(admin.id).ok());
    ASSERT_TRUE(bootstrap(*identity_, options_).ok());
    EXPECT_TRUE(identity_->authenticate(password_request("admin", "root")).ok());
}

TEST_F(IdentityTest, BootstrapFollowsTheConfiguredEndpoints) {
    const auto before = identity_->catalog().endpoints().value();
    ASSERT_EQ(before.size(), 3u);
    options_.catalog = {{"compute", "nova", "http://10.0.0.1:8774/v2.1"},
                        {"image", "glance", "http://10.0.0.1:9292"}};
    ASSERT_TRUE(bootstrap(*identity_, options_).ok());
    const auto services = identity_->catalog().services().value();
    EXPECT_EQ(services.size(), 2u);
    bool kept_id = false;
    for (const Endpoint& endpoint : identity_->catalog().endpoints().value()) {
        EXPECT_NE(endpoint.url.find("10.0.0.1"), std::string::npos);
        kept_id = kept_id || endpoint.id == before.front().id;
    }
    EXPECT_TRUE(kept_id);
    options_.catalog.pop_back();
    ASSERT_TRUE(bootstrap(*identity_, options_).ok());
    EXPECT_EQ(identity_->catalog().services().value().size(), 1u);
}

TEST(BaseUrl, SaysHowClientsReachAListenAddress) {
    EXPECT_EQ(base_url("127.0.0.1:5000", ""), "http://127.0.0.1:5000");
    EXPECT_EQ(base_url("0.0.0.0:5000", ""), "http://127.0.0.1:5000");
    EXPECT_EQ(base_url("[::]:5000", ""), "http://[::1]:5000");
    EXPECT_EQ(base_url("0.0.0.0:5000", "cloud.example"), "http://cloud.example:5000");
    EXPECT_EQ(base_url("0.0.0.0:5000", "fd00::1"), "http://[fd00::1]:5000");
}

TEST(Bootstrap, MakesUpAPasswordAndRefusesOneItCannotQuote) {
    auto database = Database::open(":memory:").value();
    ManualClock clock;
    SeededRandom random(1);
    auto identity = Identity::create(*database, clock, random, {}).value();
    const auto directory = TemporaryDirectory::create("identity").value();
    BootstrapOptions options{
        .state_path = directory.path(), .admin_password = "a'b", .auth_url = "u"};
    EXPECT_EQ(bootstrap(*identity, options).error().code, ErrorCode::InvalidArgument);
    options.admin_password.clear();
    ASSERT_TRUE(bootstrap(*identity, options).ok());
    const std::string openrc = read_file(directory.path() + "/admin-openrc").value();
    const size_t begin = openrc.find("OS_PASSWORD='") + 13;
    AuthRequest request;
    request.password = PasswordMethod{{.id = {}, .name = "admin"},
                                      openrc.substr(begin, openrc.find('\'', begin) - begin)};
    EXPECT_GE(request.password->password.size(), 43u);
    EXPECT_TRUE(identity->authenticate(request).ok());
}

}  // namespace
}  // namespace kumoi::compute::identity
