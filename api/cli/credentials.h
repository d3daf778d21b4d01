// Credentials: who logs in where, found as OpenStack's clients find it. In this order: --os-cloud
// or OS_CLOUD in clouds.yaml (OS_CLIENT_CONFIG_FILE, ./, ~/.config/openstack/, /etc/openstack/);
// the OS_* environment; and, for root on the host itself, the clouds.yaml that kumoi-compute wrote
// into its state folder. Values; blocking file reads.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

struct Credentials {
    std::string auth_url;
    std::string user_id;
    std::string user_name;
    std::string user_domain = "default";  // id or name
    std::string password;
    std::string token;
    std::string app_credential_id;
    std::string app_credential_name;
    std::string app_credential_secret;
    std::string project_id;
    std::string project_name;
    std::string project_domain = "default";
    bool system_scope = false;
    std::string region;
    std::string interface = "public";
    std::string ca_file;
    std::string origin;  // where they came from, for messages
};

using Environment = std::function<std::optional<std::string>(const std::string& name)>;

struct CredentialSources {
    std::string cloud;       // --os-cloud; empty: OS_CLOUD
    std::string state_path;  // of kumoi-compute on this host
    Environment environment;
};

// Unauthenticated, with what to set, when there are none.
Result<Credentials> find_credentials(const CredentialSources& sources);

// Pure parts.
Result<Credentials> credentials_from_cloud(const Json& clouds, const std::string& name);
Result<Credentials> credentials_from_environment(const Environment& environment);
// The body of POST /v3/auth/tokens.
Json auth_body(const Credentials& credentials);

}  // namespace kumoi::cli
