#include "api/rest/identity/identity_api.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "compute/conductor/identity_bootstrap.h"
#include "tests/support/quick_hashing.h"

namespace kumoi::api {
namespace {

namespace identity = compute::identity;

class IdentityApiTest : public testing::Test {
protected:
    void SetUp() override {
        database_ = compute::Database::open(":memory:").value();
        identity_ = identity::Identity::create(*database_, clock_, random_,
                                               {.hashing = {test::quick_hash, test::quick_matches}})
                        .value();
        ASSERT_TRUE(
            identity::bootstrap(*identity_,
                                {.state_path = directory_.path(),
                                 .admin_password = "root",
                                 .auth_url = "http://keystone:5000/v3",
                                 .catalog = {{"identity", "keystone", "http://keystone:5000/v3"},
                                             {"compute", "nova", "http://keystone:8774/v2.1"}}})
                .ok());
        validator_.emplace(*identity_);
        router_ = make_identity_router(*identity_, *validator_, "http://keystone:5000");
        blue_ = identity_->store().create_project({.name = "blue"}).value().id;
        ann_ = identity_->create_user({.name = "ann"}, "pw").value().id;
        grant(ann_, blue_, "member");
        admin_token_ = login("admin", "root", "admin");
        ann_token_ = login("ann", "pw", "blue");
    }
    void grant(const std::string& user, const std::string& project, const std::string& role) {
        const auto found = identity_->store().role_by_name(role).value();
        ASSERT_TRUE(identity_->grants()
                        .grant({{identity::TargetKind::Project, project}, user, found->id})
                        .ok());
    }
    Reply send(const std::string& method, const std::string& target, const std::string& token,
               const std::string& body = {}, const std::string& subject = {}) {
        HeaderMap headers;
        headers.set("Host", "keystone:5000");
        if (!token.empty()) {
            headers.set("X-Auth-Token", token);
        }
        if (!subject.empty()) {
            headers.set("X-Subject-Token", subject);
        }
        Request request = make_request(method, target, body, headers);
        return router_.handle(request);
    }
    // The JSON of an answer that must have this status.
    Json expect(int status, const Reply& reply) {
        EXPECT_EQ(reply.status, status) << reply.body;
        auto body = Json::parse(reply.body.empty() ? "null" : reply.body);
        return body.ok() ? body.value() : Json();
    }
    static std::string auth_body(const std::string& user, const std::string& password,
                                 const std::string& scope) {
        return fmt::format(
            R"({{"auth":{{"identity":{{"methods":["password"],"password":{{"user":{{"name":"{}",
            "domain":{{"id":"default"}},"password":"{}"}}}}}}{}}}}})",
            user, password, scope.empty() ? "" : ",\"scope\":" + scope);
    }
    static std::string project_scope(const std::string& project) {
        return fmt::format(R"({{"project":{{"name":"{}","domain":{{"name":"Default"}}}}}})",
                           project);
    }
    std::string login(const std::string& user, const std::string& password,
                      const std::string& project) {
        const Reply reply =
            send("POST", "/v3/auth/tokens", {},
                 auth_body(user, password, project.empty() ? "" : project_scope(project)));
        EXPECT_EQ(reply.status, 201) << reply.body;
        return reply.headers.first_or("X-Subject-Token");
    }
    static std::vector<std::string> names(const Json& body, const char* key) {
        std::vector<std::string> out;
        for (const Json& item : body.find(key)->as_array()) {
            out.push_back(item.string_or("name"));
        }
        return out;
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("identity").value();
    ManualClock clock_;
    SeededRandom random_{1};
    std::unique_ptr<compute::Database> database_;
    std::unique_ptr<identity::Identity> identity_;
    std::optional<IdentityTokenValidator> validator_;
    Router router_;
    std::string blue_, ann_, admin_token_, ann_token_;
};

using Names = std::vector<std::string>;

TEST_F(IdentityApiTest, BadLoginsAreAnsweredAsKeystoneDoes) {
    const Reply wrong = send("POST", "/v3/auth/tokens", {}, auth_body("ann", "no", ""));
    EXPECT_EQ(wrong.status, 401);
    EXPECT_EQ(wrong.headers.first_or("WWW-Authenticate"), "Keystone uri=\"http://keystone:5000\"");
    EXPECT_EQ(expect(401, wrong).find("error")->string_or("title"), "Unauthorized");
    for (const char* body :
         {"", "[]", "{}", R"({"auth":{}})", R"({"auth":{"identity":{"methods":[]}}})",
          R"({"auth":{"identity":{"methods":["password"]}}})",
          R"({"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"ann"}}}}})",
          R"({"auth":{"identity":{"methods":["token"],"token":{"id":1}}}})"}) {
        expect(400, send("POST", "/v3/auth/tokens", {}, body));
    }
    expect(401,
           send("POST", "/v3/auth/tokens", {}, R"({"auth":{"identity":{"methods":["saml2"]}}})"));
    expect(401, send("POST", "/v3/auth/tokens", {},
                     R"({"auth":{"identity":{"methods":["password"],"password":{"user":
                     {"name":"ann","domain":{"name":"other"},"password":"pw"}}}}})"));
    expect(400, send("POST", "/v3/auth/tokens", {}, auth_body("ann", "pw", R"({"moon":{}})")));
}

TEST_F(IdentityApiTest, ATokenHasEverythingKeystoneauthReads) {
    const Reply reply =
        send("POST", "/v3/auth/tokens", {}, auth_body("ann", "pw", project_scope("blue")));
    const Json body = expect(201, reply);
    EXPECT_EQ(reply.headers.first_or("Vary"), "X-Auth-Token");
    const Json& token = *body.find("token");
    EXPECT_EQ(token.find("methods")->dump(), R"(["password"])");
    EXPECT_EQ(token.find_path({"user", "name"})->as_string(), "ann");
    EXPECT_EQ(token.find_path({"user", "domain", "id"})->as_string(), "default");
    EXPECT_TRUE(token.find_path({"user", "password_expires_at"})->is_null());
    EXPECT_EQ(token.find_path({"project", "id"})->as_string(), blue_);
    EXPECT_EQ(token.find_path({"project", "domain", "name"})->as_string(), "Default");
    EXPECT_FALSE(token.bool_or("is_domain", true));
    EXPECT_EQ(names(token, "roles"), (Names{"member", "reader"}));
    EXPECT_EQ(token.string_or("issued_at"), "2023-11-14T22:13:20.000000Z");
    EXPECT_EQ(token.string_or("expires_at"), "2023-11-14T23:13:20.000000Z");
    EXPECT_EQ(token.find("audit_ids")->size(), 1u);
    const Json& compute = token.find("catalog")->as_array().front();
    EXPECT_EQ(compute.string_or("type"), "compute");
    Names interfaces;
    for (const Json& endpoint : compute.find("endpoints")->as_array()) {
        interfaces.push_back(endpoint.string_or("interface"));
        EXPECT_EQ(endpoint.string_or("url"), "http://keystone:8774/v2.1");
        EXPECT_EQ(endpoint.string_or("region_id"), "RegionOne");
        EXPECT_EQ(endpoint.string_or("region"), "RegionOne");
    }
    EXPECT_EQ(interfaces, (Names{"admin", "internal", "public"}));
}

TEST_F(IdentityApiTest, ScopesShowInTheToken) {
    const Json unscoped = expect(
        201, send("POST", "/v3/auth/tokens", {}, auth_body("admin", "root", "\"unscoped\"")));
    EXPECT_EQ(unscoped.find_path({"token", "project"}), nullptr);
    EXPECT_EQ(unscoped.find_path({"token", "roles"}), nullptr);
    EXPECT_EQ(unscoped.find_path({"token", "catalog"}), nullptr);
    const Json system = expect(201, send("POST", "/v3/auth/tokens", {},
                                         auth_body("admin", "root", R"({"system":{"all":true}})")));
    EXPECT_TRUE(system.find_path({"token", "system", "all"})->as_bool());
    EXPECT_NE(system.find_path({"token", "catalog"}), nullptr);
    const Json bare = expect(201, send("POST", "/v3/auth/tokens?nocatalog", {},
                                       auth_body("ann", "pw", project_scope("blue"))));
    EXPECT_EQ(bare.find_path({"token", "catalog"}), nullptr);
    EXPECT_NE(bare.find_path({"token", "roles"}), nullptr);
}

TEST_F(IdentityApiTest, TokensAreShownToThemselvesAndToAdministratorsOnly) {
    const Json own = expect(200, send("GET", "/v3/auth/tokens", ann_token_, {}, ann_token_));
    EXPECT_EQ(own.find_path({"token", "user", "id"})->as_string(), ann_);
    EXPECT_EQ(send("GET", "/v3/auth/tokens", admin_token_, {}, ann_token_).status, 200);
    EXPECT_EQ(send("HEAD", "/v3/auth/tokens", admin_token_, {}, ann_token_).status, 200);
    expect(403, send("GET", "/v3/auth/tokens", ann_token_, {}, admin_token_));
    expect(404, send("GET", "/v3/auth/tokens", admin_token_, {}, "unknown"));
    expect(401, send("GET", "/v3/auth/tokens", {}, {}, ann_token_));
    expect(400, send("GET", "/v3/auth/tokens", admin_token_));
    expect(403, send("DELETE", "/v3/auth/tokens", ann_token_, {}, admin_token_));
    expect(204, send("DELETE", "/v3/auth/tokens", ann_token_, {}, ann_token_));
    expect(401, send("GET", "/v3/auth/projects", ann_token_));
}

TEST_F(IdentityApiTest, VersionsNeedNoToken) {
    const Json choices = expect(300, send("GET", "/", {}));
    const Json& version = choices.find_path({"versions", "values"})->as_array().front();
    EXPECT_EQ(version.string_or("status"), "stable");
    EXPECT_EQ(version.find("links")->as_array().front().string_or("href"),
              "http://keystone:5000/v3/");
    for (const char* path : {"/v3", "/v3/"}) {
        EXPECT_EQ(expect(200, send("GET", path, {})).find_path({"version", "id"})->as_string(),
                  "v3.14");
    }
}

TEST_F(IdentityApiTest, StrangersSeeOnlyThemselves) {
    const std::string red = identity_->store().create_project({.name = "red"}).value().id;
    for (const std::string& path :
         Names{"/v3/projects", "/v3/users", "/v3/roles", "/v3/role_assignments", "/v3/services",
               "/v3/endpoints", "/v3/domains", "/v3/projects/" + red, "/v3/projects/no-such",
               "/v3/users/no-such", "/v3/users/no-such/projects",
               "/v3/users/" + identity_->store().user_by_name("admin").value()->id,
               "/v3/users/no-such/application_credentials", "/v3/role_inferences",
               "/v3/projects/" + blue_ + "/users/" + ann_ + "/roles"}) {
        expect(403, send("GET", path, ann_token_));
    }
    for (const auto& [method, path] :
         std::vector<std::pair<std::string, std::string>>{{"POST", "/v3/projects"},
                                                          {"POST", "/v3/users"},
                                                          {"POST", "/v3/roles"},
                                                          {"PATCH", "/v3/users/" + ann_},
                                                          {"DELETE", "/v3/users/" + ann_},
                                                          {"PATCH", "/v3/projects/" + blue_},
                                                          {"DELETE", "/v3/projects/" + blue_}}) {
        expect(403, send(method, path, ann_token_, "{}"));
    }
    EXPECT_EQ(expect(200, send("GET", "/v3/users/" + ann_, ann_token_))
                  .find_path({"user", "name"})
                  ->as_string(),
              "ann");
    expect(200, send("GET", "/v3/projects/" + blue_, ann_token_));
    const Json own = expect(200, send("GET", "/v3/auth/projects", ann_token_));
    EXPECT_EQ(names(own, "projects"), (Names{"blue"}));
    EXPECT_EQ(
        names(expect(200, send("GET", "/v3/users/" + ann_ + "/projects", ann_token_)), "projects"),
        (Names{"blue"}));
    EXPECT_EQ(expect(200, send("GET", "/v3/role_assignments?user.id=" + ann_, ann_token_))
                  .find("role_assignments")
                  ->size(),
              1u);
}

TEST_F(IdentityApiTest, ProjectsLiveFromCreationToDeletion) {
    expect(400, send("POST", "/v3/projects", admin_token_, R"({"project":{"name":""}})"));
    expect(400, send("POST", "/v3/projects", admin_token_, R"({"project":{"name":7}})"));
    expect(404, send("POST", "/v3/projects", admin_token_,
                     R"({"project":{"name":"x","domain_id":"other"}})"));
    expect(409, send("POST", "/v3/projects", admin_token_, R"({"project":{"name":"blue"}})"));
    const Json made = expect(
        201,
        send("POST", "/v3/projects", admin_token_,
             R"({"project":{"name":"red","description":"d","domain_id":"default","tags":["t"]}})"));
    const std::string path = "/v3/projects/" + made.find("project")->string_or("id");
    EXPECT_EQ(made.find_path({"project", "links", "self"})->as_string(),
              "http://keystone:5000" + path);
    const Json changed =
        expect(200, send("PATCH", path, admin_token_, R"({"project":{"enabled":false}})"));
    EXPECT_FALSE(changed.find("project")->bool_or("enabled", true));
    EXPECT_EQ(changed.find("project")->string_or("description"), "d");
    EXPECT_EQ(
        names(expect(200, send("GET", "/v3/projects?enabled=false", admin_token_)), "projects"),
        (Names{"red"}));
    expect(204, send("DELETE", path, admin_token_));
    expect(404, send("GET", path, admin_token_));
    expect(404, send("DELETE", path, admin_token_));
}

TEST_F(IdentityApiTest, ListsFilterAndPage) {
    for (const char* name : {"p1", "p2", "p3"}) {
        ASSERT_TRUE(identity_->store().create_project({.name = name}).ok());
    }
    const auto list = [&](const std::string& query) {
        return names(expect(200, send("GET", "/v3/projects" + query, admin_token_)), "projects");
    };
    EXPECT_EQ(list("?name=p2"), (Names{"p2"}));
    EXPECT_EQ(list("?name=P2"), (Names{}));
    EXPECT_EQ(list("?name__startswith=p"), (Names{"p1", "p2", "p3"}));
    EXPECT_EQ(list("?name__icontains=P"), (Names{"p1", "p2", "p3"}));
    EXPECT_EQ(list("?domain_id=other"), (Names{}));
    EXPECT_EQ(list("?is_domain=true"), (Names{}));
    const Json page =
        expect(200, send("GET", "/v3/projects?name__startswith=p&limit=2", admin_token_));
    EXPECT_EQ(names(page, "projects"), (Names{"p1", "p2"}));
    const std::string next = page.find_path({"links", "next"})->as_string();
    const std::string origin = "http://keystone:5000";
    ASSERT_TRUE(next.starts_with(origin));
    const Json last = expect(200, send("GET", next.substr(origin.size()), admin_token_));
    EXPECT_EQ(names(last, "projects"), (Names{"p3"}));
    EXPECT_TRUE(last.find_path({"links", "next"})->is_null());
    expect(400, send("GET", "/v3/projects?limit=-1", admin_token_));
    expect(400, send("GET", "/v3/projects?marker=nowhere", admin_token_));
}

TEST_F(IdentityApiTest, UsersChangeTheirOwnPasswordAndLoseTheirTokens) {
    const std::string path = "/v3/users/" + ann_ + "/password";
    const std::string good = R"({"user":{"password":"new","original_password":"pw"}})";
    expect(401, send("POST", path, ann_token_,
                     R"({"user":{"password":"new","original_password":"no"}})"));
    expect(403, send("POST", path, admin_token_, good));
    expect(400, send("POST", path, ann_token_, R"({"user":{"original_password":"pw"}})"));
    expect(204, send("POST", path, ann_token_, good));
    expect(401, send("GET", "/v3/auth/projects", ann_token_));
    EXPECT_FALSE(login("ann", "new", "blue").empty());
}

TEST_F(IdentityApiTest, UserBodiesNeverShowPasswords) {
    const Reply made = send("POST", "/v3/users", admin_token_,
                            R"({"user":{"name":"bob","password":"s3cret","email":"b@x"}})");
    const Json body = expect(201, made);
    EXPECT_EQ(made.body.find("s3cret"), std::string::npos);
    EXPECT_EQ(made.body.find("scrypt"), std::string::npos);
    EXPECT_EQ(body.find("user")->string_or("email"), "b@x");
    EXPECT_FALSE(login("bob", "s3cret", "").empty());
    expect(409, send("POST", "/v3/users", admin_token_, R"({"user":{"name":"bob"}})"));
}

TEST_F(IdentityApiTest, GrantsAreMadeCheckedAndRevoked) {
    const std::string role = identity_->store().role_by_name("manager").value()->id;
    const std::string path = "/v3/projects/" + blue_ + "/users/" + ann_ + "/roles/" + role;
    expect(404, send("HEAD", path, admin_token_));
    expect(404, send("DELETE", path, admin_token_));
    expect(204, send("PUT", path, admin_token_));
    expect(204, send("HEAD", path, admin_token_));
    expect(403, send("PUT", path, ann_token_));
    expect(404, send("PUT", "/v3/projects/none/users/" + ann_ + "/roles/" + role, admin_token_));
    const Json listed = expect(
        200, send("GET", "/v3/role_assignments?include_names=True&user.id=" + ann_, admin_token_));
    ASSERT_EQ(listed.find("role_assignments")->size(), 2u);
    const Json& first = listed.find("role_assignments")->as_array().front();
    EXPECT_EQ(first.find_path({"user", "name"})->as_string(), "ann");
    EXPECT_EQ(first.find_path({"scope", "project", "name"})->as_string(), "blue");
    const Json effective =
        expect(200, send("GET", "/v3/role_assignments?effective&user.id=" + ann_, admin_token_));
    EXPECT_EQ(effective.find("role_assignments")->size(), 3u);
    expect(204, send("DELETE", path, admin_token_));
}

TEST_F(IdentityApiTest, BuiltInRolesStayOthersComeAndGo) {
    const std::string admin = identity_->store().role_by_name("admin").value()->id;
    expect(403, send("DELETE", "/v3/roles/" + admin, admin_token_));
    expect(403, send("PATCH", "/v3/roles/" + admin, admin_token_, R"({"role":{"name":"x"}})"));
    const Json made =
        expect(201, send("POST", "/v3/roles", admin_token_, R"({"role":{"name":"auditor"}})"));
    const std::string auditor = made.find("role")->string_or("id");
    const std::string reader = identity_->store().role_by_name("reader").value()->id;
    const std::string rule = "/v3/roles/" + auditor + "/implies/" + reader;
    expect(201, send("PUT", rule, admin_token_));
    const Json implied =
        expect(200, send("GET", "/v3/roles/" + auditor + "/implies", admin_token_));
    EXPECT_EQ(names(*implied.find("role_inference"), "implies"), (Names{"reader"}));
    expect(204, send("DELETE", rule, admin_token_));
    expect(204, send("DELETE", "/v3/roles/" + auditor, admin_token_));
    EXPECT_EQ(expect(200, send("GET", "/v3/role_inferences", admin_token_))
                  .find("role_inferences")
                  ->size(),
              3u);
}

TEST_F(IdentityApiTest, ApplicationCredentialsLogInAndKnowTheirLimits) {
    const std::string path = "/v3/users/" + ann_ + "/application_credentials";
    expect(403, send("POST", path, admin_token_, R"({"application_credential":{"name":"theft"}})"));
    const Json made =
        expect(201, send("POST", path, ann_token_,
                         R"({"application_credential":{"name":"ci","roles":[{"name":"reader"}],
                         "expires_at":"2024-01-01T00:00:00"}})"));
    const Json& credential = *made.find("application_credential");
    const std::string id = credential.string_or("id");
    EXPECT_EQ(credential.string_or("expires_at"), "2024-01-01T00:00:00.000000Z");
    EXPECT_EQ(credential.string_or("project_id"), blue_);
    const std::string body = fmt::format(
        R"({{"auth":{{"identity":{{"methods":["application_credential"],
        "application_credential":{{"id":"{}","secret":"{}"}}}}}}}})",
        id, credential.string_or("secret"));
    const Reply login = send("POST", "/v3/auth/tokens", {}, body);
    const Json token = expect(201, login);
    EXPECT_TRUE(token.find_path({"token", "application_credential", "restricted"})->as_bool());
    EXPECT_EQ(names(*token.find("token"), "roles"), (Names{"reader"}));
    const std::string limited = login.headers.first_or("X-Subject-Token");
    expect(403, send("POST", path, limited, R"({"application_credential":{"name":"more"}})"));
    expect(403, send("DELETE", path + "/" + id, limited));
    const Reply listed = send("GET", path, ann_token_);
    EXPECT_EQ(listed.body.find("secret"), std::string::npos);
    expect(204, send("DELETE", path + "/" + id, ann_token_));
    expect(401, send("GET", "/v3/auth/catalog", limited));
}

TEST_F(IdentityApiTest, ValidatorTellsTheOtherApisWhoAsks) {
    const AuthContext ann = validator_->validate(ann_token_).value();
    EXPECT_EQ(ann.user_id, ann_);
    EXPECT_EQ(ann.project_id, blue_);
    EXPECT_FALSE(ann.is_admin);
    EXPECT_TRUE(ann.can_write());
    EXPECT_TRUE(validator_->validate(admin_token_).value().is_admin);
    EXPECT_EQ(validator_->validate("x").error().code, ErrorCode::Unauthenticated);
}

}  // namespace
}  // namespace kumoi::api
