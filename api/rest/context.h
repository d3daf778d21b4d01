// AuthContext: who is asking, found out once per request by the token middleware and read by every
// handler. A value; never stored beyond the request.
#pragma once

#include <string>
#include <vector>

#include "compute/manager/conductor_api.h"

namespace kumoi::api {

struct AuthContext {
    std::string user_id;
    std::string user_name;
    std::string project_id;  // empty: unscoped or system scope
    std::string project_name;
    std::string domain_id;
    std::vector<std::string> roles;  // names, lower case: admin, manager, member, reader, service
    std::string request_id;
    std::string token_id;
    bool is_admin = false;      // holds role admin
    bool system_scope = false;  // token is scoped to the whole deployment

    bool has_role(const std::string& role) const;
    // What a role implies: admin > manager > member > reader (Keystone's implied roles).
    bool can_read() const;   // reader or above, in its own project
    bool can_write() const;  // member or above
    compute::RequestContext request_context() const {
        return {request_id, user_id, project_id, is_admin};
    }
};

}  // namespace kumoi::api
