// bootstrap(): what must exist before anybody can log in. Run at every start; it adds what is
// missing and never takes away. At the first start it makes the roles (admin > manager > member >
// reader, and service), the project and user "admin" with the configured password or a made-up one,
// and writes the credentials to admin-openrc and clouds.yaml in the state folder, readable by the
// owner only. The catalog follows the configuration at each start.
#pragma once

#include <string>
#include <vector>

#include "base/config.h"
#include "base/result.h"
#include "compute/conductor/identity.h"

namespace kumoi::compute::identity {

struct BootstrapOptions {
    std::string state_path;
    std::string admin_password;  // empty: made up
    std::string region = "RegionOne";
    std::string auth_url;  // "http://127.0.0.1:5000/v3", for the credential files
    std::vector<CatalogEntry> catalog;
};

// From [identity], and the listen options of [api], [identity], [image] and [network].
BootstrapOptions bootstrap_options(const Config& config);

Result<void> bootstrap(Identity& identity, const BootstrapOptions& options);

// "http://host:port" of a listen option as clients reach it: `public_host` if there is one, else
// the listen address, with loopback in place of the wildcard.
std::string base_url(const std::string& listen, const std::string& public_host);

}  // namespace kumoi::compute::identity
