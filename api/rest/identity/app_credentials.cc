// /v3/users/{user_id}/application_credentials. Only the user itself makes them; a token that came
// from a restricted one can neither make nor delete any.
#include "api/rest/identity/identity_routes.h"
#include "api/rest/identity/identity_views.h"
#include "base/clock.h"

namespace kumoi::api::identity {
namespace {

using compute::identity::NewAppCredential;

Result<void> refuse_restricted(const compute::identity::Token& token) {
    if (token.app_credential && !token.app_credential->unrestricted) {
        return Error::forbidden(
                   "This token comes from a restricted application credential, which "
                   "may not manage application credentials.")
            .with_hint("Log in by password, or use an unrestricted one.");
    }
    return {};
}

Result<NewAppCredential> parse(const JsonView& object) {
    NewAppCredential wanted{.name = TRY(read_name(object))};
    TRY(read_optional_text(object, "description", wanted.description));
    TRY(read_optional_text(object, "secret", wanted.secret));
    wanted.unrestricted = TRY(object.boolean_or("unrestricted", false));
    if (object.has("expires_at")) {
        const std::string text = TRY(object.string("expires_at"));
        wanted.expires_ns = parse_iso8601(text);
        if (!wanted.expires_ns) {
            return object.error("expires_at: expected a time such as 2026-12-31T23:59:59Z");
        }
    }
    if (object.has("roles")) {
        for (const JsonView& role : TRY(object.array("roles"))) {
            const bool by_id = role.has("id");
            const std::string value = TRY(role.string(by_id ? "id" : "name"));
            wanted.roles.push_back({by_id ? value : "", by_id ? "" : value});
        }
    }
    if (object.has("access_rules") && TRY(object.array("access_rules")).size() > 0) {
        return Error::unsupported("Access rules of application credentials are not offered here.");
    }
    return wanted;
}

Result<Reply> create(Identity& identity, Request& request) {
    const auto token = TRY(token_of(identity, request));
    if (token->user.id != request.parameter("user_id")) {
        return Error::forbidden("Application credentials can be made for oneself only.");
    }
    TRY(refuse_restricted(*token));
    const Json body = TRY(request.json());
    const auto wanted = TRY(parse(TRY(JsonView(body).object("application_credential"))));
    const auto [credential, secret] = TRY(identity.create_app_credential(*token, wanted));
    Json view = app_credential_view(v3_base(request), credential);
    view.set("secret", secret);  // shown this once
    return Reply::json(Json::object({{"application_credential", std::move(view)}}), 201);
}

Result<Reply> show(Identity& identity, Request& request) {
    const std::string& user_id = request.parameter("user_id");
    TRY(authorize(request, "identity:get_application_credential", {.user_id = user_id}));
    const auto credential = TRY(identity.app_credentials().get(request.parameter("id")));
    if (credential.user_id != user_id) {
        return Error::not_found("Could not find Application Credential: {}.", credential.id);
    }
    return Reply::json(Json::object(
        {{"application_credential", app_credential_view(v3_base(request), credential)}}));
}

Result<Reply> remove(Identity& identity, Request& request) {
    const std::string& user_id = request.parameter("user_id");
    TRY(authorize(request, "identity:delete_application_credential", {.user_id = user_id}));
    TRY(refuse_restricted(*TRY(token_of(identity, request))));
    TRY(identity.app_credentials().remove(user_id, request.parameter("id")));
    return Reply::no_content();
}

}  // namespace

void add_app_credential_routes(Router& router, Identity& identity) {
    const std::string all = "/v3/users/{user_id}/application_credentials";
    route(router, "GET", all, [&](Request& request) -> Result<Reply> {
        const std::string& user_id = request.parameter("user_id");
        TRY(authorize(request, "identity:list_application_credentials", {.user_id = user_id}));
        TRY(identity.store().user(user_id));
        const auto credentials = TRY(identity.app_credentials().list(user_id));
        return collection(request, "application_credentials",
                          views(v3_base(request), credentials, app_credential_view));
    });
    route(router, "POST", all, [&](Request& request) { return create(identity, request); });
    route(router, "GET", all + "/{id}", [&](Request& request) { return show(identity, request); });
    route(router, "DELETE", all + "/{id}",
          [&](Request& request) { return remove(identity, request); });
}

}  // namespace kumoi::api::identity
