#include "api/rest/auth_middleware.h"

#include <algorithm>

#include "api/rest/fault.h"
#include "base/assert.h"
#include "base/log.h"

namespace kumoi::api {
namespace {

constexpr size_t kTokenBytesMax = 4096;
constexpr std::string_view kUnauthenticated = "The request you have made requires authentication.";

Reply unauthenticated(const AuthOptions& options) {
    Reply reply = fault_body(ApiShape::Keystone, 401, kUnauthenticated);
    reply.headers.set("WWW-Authenticate", fmt::format("Keystone uri=\"{}\"", options.identity_uri));
    return reply;
}

void add_service_role(TokenValidator& validator, const Request& request, AuthContext& who) {
    const std::string* token = request.headers.find("X-Service-Token");
    if (token == nullptr || token->size() > kTokenBytesMax) {
        return;
    }
    const auto service = validator.validate(*token);
    if (service.ok() && service.value().has_role("service") && !who.has_role("service")) {
        who.roles.push_back("service");
    }
}

}  // namespace

Middleware authenticate(TokenValidator& validator, AuthOptions options) {
    return [&validator, options = std::move(options)](Request& request, const Handler& next) {
        const bool open = std::find(options.open_routes.begin(), options.open_routes.end(),
                                    request.route) != options.open_routes.end();
        const std::string* token = request.headers.find("X-Auth-Token");
        if (token == nullptr || token->empty() || token->size() > kTokenBytesMax) {
            return open ? next(request) : unauthenticated(options);
        }
        auto who = validator.validate(*token);
        if (!who.ok()) {
            if (who.error().code != ErrorCode::Unauthenticated) {
                return fault_reply(ApiShape::Keystone, who.error(), &request);
            }
            return open ? next(request) : unauthenticated(options);
        }
        AuthContext& context = request.attach(std::move(who).value());
        context.request_id = request.request_id;
        if (options.accept_service_token) {
            add_service_role(validator, request, context);
        }
        const LogScope scope({{"user", context.user_id}, {"project", context.project_id}});
        return next(request);
    };
}

const AuthContext& auth_of(const Request& request) {
    const AuthContext* context = request.attachment<AuthContext>();
    KUMOI_ASSERT(context != nullptr);
    return *context;
}

const AuthContext* auth_if_any(const Request& request) {
    return request.attachment<AuthContext>();
}

}  // namespace kumoi::api
