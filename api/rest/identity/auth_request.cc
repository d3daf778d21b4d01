#include "api/rest/identity/auth_request.h"

#include "api/rest/identity/identity_routes.h"

namespace kumoi::api::identity {
namespace {

using compute::identity::AppCredentialMethod;
using compute::identity::AuthRequest;
using compute::identity::NameOrId;
using compute::identity::PasswordMethod;
using compute::identity::ScopeKind;

constexpr size_t kMethodCountMax = 3;

Error wrong_domain() {
    return Error::unauthenticated("The request you have made requires authentication.");
}

// {"id": ...} or {"name": ..., "domain": {...}}.
Result<NameOrId> read_reference(const JsonView& object) {
    if (object.has("id")) {
        return NameOrId{.id = TRY(object.string("id")), .name = {}};
    }
    NameOrId reference{.id = {}, .name = TRY(object.string("name"))};
    const auto domain = check_domain(TRY(object.object("domain")));
    if (!domain.ok()) {
        return domain.error().code == ErrorCode::NotFound ? wrong_domain() : domain.error();
    }
    return reference;
}

Result<PasswordMethod> read_password(const JsonView& identity) {
    const JsonView user = TRY(TRY(identity.object("password")).object("user"));
    return PasswordMethod{.user = TRY(read_reference(user)),
                          .password = TRY(user.string("password"))};
}

Result<AppCredentialMethod> read_app_credential(const JsonView& identity) {
    const JsonView credential = TRY(identity.object("application_credential"));
    AppCredentialMethod method{.secret = TRY(credential.string("secret"))};
    if (credential.has("id")) {
        method.credential.id = TRY(credential.string("id"));
        return method;
    }
    method.credential.name = TRY(credential.string("name"));
    method.user = TRY(read_reference(TRY(credential.object("user"))));
    return method;
}

Result<void> read_methods(const JsonView& identity, AuthRequest& request) {
    const auto methods = TRY(identity.array("methods"));
    if (methods.empty() || methods.size() > kMethodCountMax) {
        return Error::invalid("{}.methods: expected 1 to {} methods, got {}.", identity.path(),
                              kMethodCountMax, methods.size());
    }
    for (const JsonView& item : methods) {
        const std::string method = TRY(item.as_string());
        if (method == "password") {
            request.password = TRY(read_password(identity));
        } else if (method == "token") {
            request.token = TRY(TRY(identity.object("token")).string("id"));
        } else if (method == "application_credential") {
            request.app_credential = TRY(read_app_credential(identity));
        } else {
            return Error::unauthenticated("Authentication method {} is not offered here.", method)
                .with_hint("Use password, token or application_credential.");
        }
    }
    return {};
}

Result<void> read_scope(const JsonView& auth, AuthRequest& request) {
    if (!auth.has("scope")) {
        return {};
    }
    const JsonView scope = TRY(auth.at("scope"));
    if (scope.json().is_string()) {
        if (scope.json().as_string() != "unscoped") {
            return scope.error("expected \"unscoped\" or an object");
        }
        request.scope = ScopeKind::Unscoped;
        return {};
    }
    if (!scope.json().is_object()) {
        return scope.wrong_type("object");
    }
    if (scope.json().size() != 1) {
        return scope.error("expected exactly one of project, domain, system, unscoped");
    }
    if (scope.has("project")) {
        request.scope = ScopeKind::Project;
        request.project = TRY(read_reference(TRY(scope.object("project"))));
    } else if (scope.has("domain")) {
        request.scope = ScopeKind::Domain;
        const auto domain = check_domain(TRY(scope.object("domain")));
        if (!domain.ok()) {
            return domain.error().code == ErrorCode::NotFound ? wrong_domain() : domain.error();
        }
    } else if (scope.has("system")) {
        request.scope = ScopeKind::System;
        if (!TRY(TRY(scope.object("system")).boolean("all"))) {
            return scope.error("system.all must be true");
        }
    } else if (scope.present("unscoped")) {
        request.scope = ScopeKind::Unscoped;
    } else {
        return scope.error("expected one of project, domain, system, unscoped");
    }
    return {};
}

}  // namespace

Result<AuthRequest> parse_auth_request(const Json& body) {
    AuthRequest request;
    const JsonView auth = TRY(JsonView(body).object("auth"));
    TRY(read_methods(TRY(auth.object("identity")), request));
    TRY(read_scope(auth, request));
    return request;
}

}  // namespace kumoi::api::identity
