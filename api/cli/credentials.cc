#include "api/cli/credentials.h"

#include <array>
#include <vector>

#include "api/cli/yaml.h"
#include "base/file.h"

namespace kumoi::cli {
namespace {

constexpr size_t kCloudsBytesMax = 1u << 20;

struct Setting {
    const char* key;  // in clouds.yaml below "auth"; upper case with OS_ in the environment
    std::string Credentials::*member;
};

constexpr std::array kSettings{
    Setting{"auth_url", &Credentials::auth_url},
    Setting{"user_id", &Credentials::user_id},
    Setting{"username", &Credentials::user_name},
    Setting{"user_domain_name", &Credentials::user_domain},
    Setting{"user_domain_id", &Credentials::user_domain},
    Setting{"password", &Credentials::password},
    Setting{"token", &Credentials::token},
    Setting{"application_credential_id", &Credentials::app_credential_id},
    Setting{"application_credential_name", &Credentials::app_credential_name},
    Setting{"application_credential_secret", &Credentials::app_credential_secret},
    Setting{"tenant_id", &Credentials::project_id},
    Setting{"tenant_name", &Credentials::project_name},
    Setting{"project_id", &Credentials::project_id},
    Setting{"project_name", &Credentials::project_name},
    Setting{"project_domain_name", &Credentials::project_domain},
    Setting{"project_domain_id", &Credentials::project_domain},
};

std::string environment_name(std::string_view key) {
    std::string name = "OS_";
    for (const char character : key) {
        name.push_back(character >= 'a' && character <= 'z' ? static_cast<char>(character - 32)
                                                            : character);
    }
    return name;
}

Result<Credentials> checked(Credentials credentials) {
    if (credentials.auth_url.empty()) {
        return Error::invalid("{} names no auth_url.", credentials.origin)
            .with_hint("Set OS_AUTH_URL, for example http://127.0.0.1:5000/v3.");
    }
    const bool has_user = !credentials.user_name.empty() || !credentials.user_id.empty();
    const bool enough = !credentials.token.empty() || !credentials.app_credential_secret.empty() ||
                        (has_user && !credentials.password.empty());
    if (!enough) {
        return Error::invalid("{} holds no password, token or application credential secret.",
                              credentials.origin)
            .with_hint("Set OS_USERNAME and OS_PASSWORD.");
    }
    return credentials;
}

// A domain is written by id or by name; "default" is the id of "Default".
Json domain_reference(const std::string& domain) {
    return domain == "default" ? Json::object({{"id", domain}}) : Json::object({{"name", domain}});
}

Json user_reference(const Credentials& credentials) {
    return credentials.user_id.empty()
               ? Json::object({{"name", credentials.user_name},
                               {"domain", domain_reference(credentials.user_domain)}})
               : Json::object({{"id", credentials.user_id}});
}

Json identity_part(const Credentials& credentials) {
    if (!credentials.app_credential_secret.empty()) {
        Json part = Json::object({{"secret", credentials.app_credential_secret}});
        if (credentials.app_credential_id.empty()) {
            part.set("name", credentials.app_credential_name);
            part.set("user", user_reference(credentials));
        } else {
            part.set("id", credentials.app_credential_id);
        }
        return Json::object({{"methods", Json::array_of(std::array{"application_credential"})},
                             {"application_credential", std::move(part)}});
    }
    if (!credentials.token.empty()) {
        return Json::object({{"methods", Json::array_of(std::array{"token"})},
                             {"token", Json::object({{"id", credentials.token}})}});
    }
    Json user = user_reference(credentials);
    user.set("password", credentials.password);
    return Json::object({{"methods", Json::array_of(std::array{"password"})},
                         {"password", Json::object({{"user", std::move(user)}})}});
}

std::optional<Json> scope_part(const Credentials& credentials) {
    if (!credentials.app_credential_secret.empty()) {
        return std::nullopt;  // it is bound to its project
    }
    if (!credentials.project_id.empty()) {
        return Json::object({{"project", Json::object({{"id", credentials.project_id}})}});
    }
    if (!credentials.project_name.empty()) {
        return Json::object(
            {{"project",
              Json::object({{"name", credentials.project_name},
                            {"domain", domain_reference(credentials.project_domain)}})}});
    }
    if (credentials.system_scope) {
        return Json::object({{"system", Json::object({{"all", true}})}});
    }
    return std::nullopt;
}

std::vector<std::string> clouds_files(const Environment& environment) {
    if (const auto file = environment("OS_CLIENT_CONFIG_FILE")) {
        return {*file};
    }
    std::vector<std::string> files{"clouds.yaml"};
    if (const auto home = environment("HOME")) {
        files.push_back(*home + "/.config/openstack/clouds.yaml");
    }
    files.push_back("/etc/openstack/clouds.yaml");
    return files;
}

Result<Credentials> read_cloud(const std::string& path, const std::string& name) {
    const auto text = TRY(read_file(path, kCloudsBytesMax));
    const Json clouds = TRY_CONTEXT(parse_yaml(text), "{}", path);
    auto credentials = TRY_CONTEXT(credentials_from_cloud(clouds, name), "{}", path);
    credentials.origin = fmt::format("Cloud {} in {}", name, path);
    return credentials;
}

}  // namespace

Result<Credentials> credentials_from_cloud(const Json& clouds, const std::string& name) {
    const Json* all = clouds.find("clouds");
    const Json* cloud = all == nullptr ? nullptr : all->find(name);
    if (cloud == nullptr || !cloud->is_object()) {
        std::vector<std::string> names;
        if (all != nullptr && all->is_object()) {
            for (const auto& member : all->as_object()) {
                names.push_back(member.first);
            }
        }
        const auto near = nearest_name(name, names);
        return Error::not_found("There is no cloud {}.", name)
            .with_hint(near ? fmt::format("Did you mean {}?", *near) : "");
    }
    Credentials credentials;
    credentials.origin = "Cloud " + name;
    for (const Setting& setting : kSettings) {
        const Json* value = cloud->find_path({"auth", setting.key});
        if (value != nullptr && value->is_string()) {
            credentials.*setting.member = value->as_string();
        }
    }
    const Json* system = cloud->find_path({"auth", "system_scope"});
    credentials.system_scope = system != nullptr && !system->is_null();
    credentials.region = cloud->string_or("region_name");
    credentials.interface = cloud->string_or("interface", "public");
    credentials.ca_file = cloud->string_or("cacert");
    return checked(std::move(credentials));
}

Result<Credentials> credentials_from_environment(const Environment& environment) {
    Credentials credentials;
    credentials.origin = "The environment (OS_*)";
    for (const Setting& setting : kSettings) {
        if (const auto value = environment(environment_name(setting.key))) {
            credentials.*setting.member = *value;
        }
    }
    credentials.system_scope = environment("OS_SYSTEM_SCOPE").has_value();
    credentials.region = environment("OS_REGION_NAME").value_or("");
    credentials.interface = environment("OS_INTERFACE").value_or("public");
    credentials.ca_file = environment("OS_CACERT").value_or("");
    return checked(std::move(credentials));
}

Result<Credentials> find_credentials(const CredentialSources& sources) {
    const std::string cloud =
        sources.cloud.empty() ? sources.environment("OS_CLOUD").value_or("") : sources.cloud;
    if (!cloud.empty()) {
        std::string tried;
        for (const std::string& file : clouds_files(sources.environment)) {
            if (path_exists(file)) {
                return read_cloud(file, cloud);
            }
            tried += (tried.empty() ? "" : ", ") + file;
        }
        return Error::not_found("There is no clouds.yaml for cloud {}; looked for {}.", cloud,
                                tried);
    }
    if (sources.environment("OS_AUTH_URL")) {
        return credentials_from_environment(sources.environment);
    }
    const std::string own = sources.state_path + "/clouds.yaml";
    auto credentials = read_cloud(own, "kumoi");
    if (credentials.ok() || (credentials.error().code != ErrorCode::NotFound &&
                             credentials.error().code != ErrorCode::Forbidden)) {
        return credentials;
    }
    return Error::unauthenticated("No credentials were found.")
        .with_hint(fmt::format("Set OS_CLOUD or the OS_* variables, or run as root on the host "
                               "({} is read there).",
                               own));
}

Json auth_body(const Credentials& credentials) {
    Json auth = Json::object({{"identity", identity_part(credentials)}});
    if (auto scope = scope_part(credentials)) {
        auth.set("scope", std::move(*scope));
    }
    return Json::object({{"auth", std::move(auth)}});
}

}  // namespace kumoi::cli
