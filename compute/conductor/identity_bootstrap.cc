#include "compute/conductor/identity_bootstrap.h"

#include "base/file.h"
#include "base/log.h"

namespace kumoi::compute::identity {
namespace {

constexpr const char* kAdmin = "admin";

Result<Role> ensure_role(IdentityStore& store, const std::string& name) {
    if (const auto role = TRY(store.role_by_name(name))) {
        return *role;
    }
    return store.create_role({.id = {}, .name = name, .description = {}});
}

Result<Role> ensure_roles(Identity& identity) {
    const Role admin = TRY(ensure_role(identity.store(), kAdmin));
    Role prior = admin;
    for (const char* name : {"manager", "member", "reader"}) {
        const bool is_new = !TRY(identity.store().role_by_name(name));
        Role implied = TRY(ensure_role(identity.store(), name));
        if (is_new) {  // an operator who took an implication away keeps it so
            TRY(identity.grants().imply({prior.id, implied.id}));
        }
        prior = std::move(implied);
    }
    TRY(ensure_role(identity.store(), "service"));
    return admin;
}

std::string openrc(const BootstrapOptions& options, const std::string& password) {
    return fmt::format(
        "# Credentials of the administrator. Use: . admin-openrc\n"
        "export OS_IDENTITY_API_VERSION=3\n"
        "export OS_AUTH_TYPE=password\n"
        "export OS_AUTH_URL={}\n"
        "export OS_USERNAME={}\n"
        "export OS_PASSWORD='{}'\n"
        "export OS_USER_DOMAIN_ID=default\n"
        "export OS_PROJECT_NAME={}\n"
        "export OS_PROJECT_DOMAIN_ID=default\n"
        "export OS_REGION_NAME={}\n",
        options.auth_url, kAdmin, password, kAdmin, options.region);
}

// A double-quoted YAML scalar and a single-quoted shell word must both hold the password as it is.
Result<void> check_quotable(const std::string& password) {
    for (const char character : password) {
        const auto byte = static_cast<unsigned char>(character);
        if (character == '\'' || character == '"' || character == '\\' || byte < 0x20) {
            return Error::invalid(
                       "admin_password of section [identity] holds a quote, a backslash or a "
                       "control character.")
                .with_hint("Choose one without: it is written to admin-openrc and clouds.yaml.");
        }
    }
    return {};
}

std::string clouds_yaml(const BootstrapOptions& options, const std::string& password) {
    return fmt::format(
        "# Credentials of the administrator. Use: OS_CLIENT_CONFIG_FILE=clouds.yaml "
        "OS_CLOUD=kumoi\n"
        "clouds:\n"
        "  kumoi:\n"
        "    auth:\n"
        "      auth_url: \"{}\"\n"
        "      username: \"{}\"\n"
        "      password: \"{}\"\n"
        "      user_domain_id: default\n"
        "      project_name: \"{}\"\n"
        "      project_domain_id: default\n"
        "    region_name: \"{}\"\n"
        "    identity_api_version: 3\n",
        options.auth_url, kAdmin, password, kAdmin, options.region);
}

Result<Project> ensure_admin_project(IdentityStore& store) {
    if (const auto project = TRY(store.project_by_name(kAdmin))) {
        return *project;
    }
    return store.create_project(
        {.id = {}, .name = kAdmin, .description = "The administrator's project.", .tags = {}});
}

// Files first, user second: a crash between them repeats both with a new password.
Result<User> create_admin(Identity& identity, const BootstrapOptions& options,
                          const Project& project) {
    const std::string password = options.admin_password.empty()
                                     ? identity.passwords().random_secret()
                                     : options.admin_password;
    TRY(check_quotable(password));
    TRY(write_file_atomic(options.state_path + "/admin-openrc", openrc(options, password), 0600));
    TRY(write_file_atomic(options.state_path + "/clouds.yaml", clouds_yaml(options, password),
                          0600));
    log_info("identity", "user admin made; its password is in admin-openrc",
             {{"folder", options.state_path}});
    return identity.create_user({.id = {},
                                 .name = kAdmin,
                                 .default_project_id = project.id,
                                 .description = {},
                                 .email = {}},
                                password);
}

// Whoever lost the last administrator gets one back by a restart; where there is one, nothing is
// touched, whatever it is called.
Result<void> ensure_admin(Identity& identity, const BootstrapOptions& options, const Role& role) {
    if (!TRY(identity.grants().list({.user_id = {}, .role_id = role.id, .target = {}})).empty()) {
        return {};
    }
    const Project project = TRY(ensure_admin_project(identity.store()));
    const auto existing = TRY(identity.store().user_by_name(kAdmin));
    const User user = existing ? *existing : TRY(create_admin(identity, options, project));
    TRY(identity.grants().grant({{TargetKind::System, "all"}, user.id, role.id}));
    return identity.grants().grant({{TargetKind::Project, project.id}, user.id, role.id});
}

}  // namespace

std::string base_url(const std::string& listen, const std::string& public_host) {
    const size_t colon = listen.rfind(':');
    const std::string port = colon == std::string::npos ? "" : listen.substr(colon);
    std::string host = public_host.empty() ? listen.substr(0, colon) : public_host;
    if (host.empty() || host == "0.0.0.0" || host == "*") {
        host = "127.0.0.1";
    } else if (host == "[::]") {
        host = "[::1]";
    } else if (host.find(':') != std::string::npos && host.front() != '[') {
        host = "[" + host + "]";
    }
    return "http://" + host + port;
}

BootstrapOptions bootstrap_options(const Config& config) {
    const std::string host = config.string("identity", "public_host");
    const auto url = [&](const char* section) {
        return base_url(config.string(section, "listen"), host);
    };
    return {.state_path = config.string("DEFAULT", "state_path"),
            .admin_password = config.string("identity", "admin_password"),
            .region = config.string("identity", "region"),
            .auth_url = url("identity") + "/v3",
            .catalog = {{"identity", "keystone", url("identity") + "/v3"},
                        {"compute", "nova", url("api") + "/v2.1"},
                        {"image", "glance", url("image")},
                        {"network", "neutron", url("network")}}};
}

Result<void> bootstrap(Identity& identity, const BootstrapOptions& options) {
    const Role admin = TRY(ensure_roles(identity));
    TRY_CONTEXT(ensure_admin(identity, options, admin), "making the user admin");
    return identity.catalog().set(options.region, options.catalog);
}

}  // namespace kumoi::compute::identity
