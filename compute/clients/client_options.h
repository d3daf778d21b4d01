// The options of nova.conf that say how a service is reached and who we are there, for the sections
// [keystone_authtoken] [placement] [neutron] [glance] [cinder] [service_user], with keystoneauth's
// names; and the table that declares them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/config.h"
#include "compute/clients/http_client.h"
#include "compute/clients/http_retry.h"

namespace kumoi::clients {

// Who we are at Keystone.
struct AuthOptions {
    std::string section;  // for messages: "placement"
    std::string auth_type = "password";
    std::string auth_url;
    std::string username, user_id, user_domain_name, user_domain_id, password;
    std::string project_name, project_id, project_domain_name, project_domain_id;
    std::string domain_name, domain_id, system_scope, trust_id;
    std::string application_credential_id, application_credential_name,
        application_credential_secret;
    std::string token;

    bool configured() const { return !auth_url.empty() || auth_type == "none"; }
    // auth_section is followed; empty auth_type is "password".
    static AuthOptions from_config(const Config& config, const std::string& section);
};

// Where a service is and how often it is asked.
struct ServiceOptions {
    std::string service_type;  // "placement", "network", "image", "block-storage"
    std::string service_name;  // of the catalog; empty: any
    std::vector<std::string> interfaces = {"internal", "public"};  // first found wins
    std::string region_name;                                       // empty: any
    std::string endpoint_override;                                 // may hold %(project_id)s
    std::string version_service;  // of OpenStack-API-Version: "placement", "volume"
    RetryPolicy retries;

    static ServiceOptions from_config(const Config& config, const std::string& section);
};

HttpClientOptions http_options_from_config(const Config& config, const std::string& section);

std::vector<Option> client_option_table();

}  // namespace kumoi::clients
