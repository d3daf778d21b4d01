// The records of the identity service, in Keystone's words. Plain values. Times are wall-clock
// nanoseconds. Ids are 32 hexadecimal digits, but for the domain "default" and regions.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kumoi::compute::identity {

// The one domain there is.
constexpr const char* kDefaultDomainId = "default";
constexpr const char* kDefaultDomainName = "Default";

struct Project {
    std::string id;
    std::string name;
    std::string description;
    bool enabled = true;
    std::vector<std::string> tags;
};

struct User {
    std::string id;
    std::string name;
    bool enabled = true;
    std::optional<std::string> default_project_id;
    std::optional<std::string> description;
    std::optional<std::string> email;
};

struct Role {
    std::string id;
    std::string name;
    std::optional<std::string> description;
};

enum class TargetKind { Project, Domain, System };

// What a role is held on. System has the id "all".
struct Target {
    TargetKind kind = TargetKind::Project;
    std::string id;
    bool operator==(const Target&) const = default;
};

struct Assignment {
    Target target;
    std::string user_id;
    std::string role_id;
};

struct ImpliedRole {
    std::string prior_id;
    std::string implied_id;
};

struct AppCredential {
    std::string id;
    std::string user_id;
    std::string project_id;
    std::string name;
    std::optional<std::string> description;
    std::vector<Role> roles;
    std::optional<int64_t> expires_ns;
    bool unrestricted = false;  // may manage application credentials itself
};

struct Region {
    std::string id;
    std::string description;
};

struct Service {
    std::string id;
    std::string type;
    std::string name;
    bool enabled = true;
};

struct Endpoint {
    std::string id;
    std::string service_id;
    std::string interface;  // public, internal, admin
    std::string region_id;
    std::string url;
    bool enabled = true;
};

// A valid token and all it stands for. Immutable; readers share it with the cache.
struct Token {
    User user;
    std::optional<Project> project;
    bool domain_scope = false;
    bool system_scope = false;
    std::vector<Role> roles;  // with implied ones; empty when unscoped
    std::vector<std::string> methods;
    std::vector<std::string> audit_ids;
    std::optional<AppCredential> app_credential;
    int64_t issued_ns = 0;
    int64_t expires_ns = 0;
};
using TokenPtr = std::shared_ptr<const Token>;  // shared: outlives its cache entry while in use

}  // namespace kumoi::compute::identity
