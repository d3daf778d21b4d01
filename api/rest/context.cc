#include "api/rest/context.h"

#include <algorithm>

namespace kumoi::api {

bool AuthContext::has_role(const std::string& role) const {
    return std::find(roles.begin(), roles.end(), role) != roles.end();
}

bool AuthContext::can_read() const {
    return can_write() || has_role("reader");
}

bool AuthContext::can_write() const {
    return is_admin || has_role("admin") || has_role("manager") || has_role("member");
}

}  // namespace kumoi::api
