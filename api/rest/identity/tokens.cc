// /v3/auth: logging in, looking at tokens, revoking them, and what a token can reach.
#include "api/rest/identity/auth_request.h"
#include "api/rest/identity/identity_routes.h"
#include "api/rest/identity/identity_views.h"
#include "api/rest/identity/token_views.h"
#include "base/digest.h"

namespace kumoi::api::identity {
namespace {

constexpr size_t kTokenBytesMax = 4096;

Result<Reply> token_reply(Identity& identity, const Request& request, const std::string& secret,
                          const compute::identity::Token& token, int status) {
    Json view = TRY(token_view(identity, token, !request.query.has("nocatalog")));
    return Reply::json(Json::object({{"token", std::move(view)}}), status)
        .with_header("X-Subject-Token", secret)
        .with_header("Vary", "X-Auth-Token");
}

Result<Reply> issue(Identity& identity, Request& request) {
    const Json body = TRY(request.json());
    const auto issued = TRY(identity.authenticate(TRY(parse_auth_request(body))));
    return token_reply(identity, request, issued.secret, *issued.token, 201);
}

// The subject, and whether the caller may ask about it: its own token, or as administrator or
// service.
Result<std::string> subject_token(const Request& request, std::string_view rule) {
    const auto subject = request.headers.first("X-Subject-Token");
    if (!subject || subject->empty() || subject->size() > kTokenBytesMax) {
        return Error::invalid("The header X-Subject-Token is missing or too long.");
    }
    const AuthContext* who = auth_if_any(request);
    if (who == nullptr) {
        return Error::unauthenticated("The request you have made requires authentication.");
    }
    if (!equal_constant_time(*subject, who->token_id) && !who->has_role("service")) {
        TRY(policy().authorize(*who, rule));
    }
    return *subject;
}

Error token_not_found(Error error) {
    if (error.code != ErrorCode::Unauthenticated) {
        return error;
    }
    return Error::not_found("Could not find token.").with_fault("TokenNotFound");
}

Result<Reply> validate(Identity& identity, Request& request) {
    const std::string subject = TRY(subject_token(request, "identity:validate_token"));
    const auto token = identity.tokens().validate(subject);
    if (!token.ok()) {
        return token_not_found(token.error());
    }
    return token_reply(identity, request, subject, *token.value(), 200);
}

Result<Reply> revoke(Identity& identity, Request& request) {
    const std::string subject = TRY(subject_token(request, "identity:revoke_token"));
    TRY(identity.tokens().revoke(subject));
    return Reply::no_content();
}

// keystonemiddleware and clients look for it on every 401.
Handler with_challenge(Handler handler) {
    return [handler = std::move(handler)](Request& request) {
        Reply reply = handler(request);
        if (reply.status == 401) {
            reply.headers.set("WWW-Authenticate",
                              fmt::format("Keystone uri=\"{}\"", request.base_url()));
        }
        return reply;
    };
}

void token_route(Router& router, std::string_view method, Identity& identity,
                 Result<Reply> (*handler)(Identity&, Request&)) {
    router.add(method, "/v3/auth/tokens",
               with_challenge(answer(ApiShape::Keystone, [&identity, handler](Request& request) {
                   return handler(identity, request);
               })));
}

}  // namespace

void add_token_routes(Router& router, Identity& identity) {
    token_route(router, "POST", identity, issue);
    token_route(router, "GET", identity, validate);
    token_route(router, "DELETE", identity, revoke);
    route(router, "GET", "/v3/auth/catalog", [&](Request& request) -> Result<Reply> {
        Json catalog = TRY(catalog_view(identity));
        Json links = Json::object({{"self", v3_base(request) + "/auth/catalog"},
                                   {"previous", nullptr},
                                   {"next", nullptr}});
        return Reply::json(
            Json::object({{"catalog", std::move(catalog)}, {"links", std::move(links)}}));
    });
    route(router, "GET", "/v3/auth/projects", [&](Request& request) -> Result<Reply> {
        const auto projects = TRY(identity.grants().projects_of(auth_of(request).user_id));
        return collection(request, "projects", views(v3_base(request), projects, project_view));
    });
    route(router, "GET", "/v3/auth/domains", [&](Request& request) -> Result<Reply> {
        const auto roles = TRY(identity.grants().effective_roles(
            auth_of(request).user_id,
            {compute::identity::TargetKind::Domain, compute::identity::kDefaultDomainId}));
        Json::Array domains;
        if (!roles.empty()) {
            domains.push_back(domain_view(v3_base(request)));
        }
        return collection(request, "domains", std::move(domains));
    });
    route(router, "GET", "/v3/auth/system", [&](Request& request) -> Result<Reply> {
        const auto roles = TRY(identity.grants().effective_roles(
            auth_of(request).user_id, {compute::identity::TargetKind::System, "all"}));
        Json::Array system;
        if (!roles.empty()) {
            system.push_back(Json::object({{"all", true}}));
        }
        return collection(request, "system", std::move(system), {});
    });
}

}  // namespace kumoi::api::identity
