#include "compute/clients/keystone_session.h"

#include <algorithm>

#include "base/log.h"
#include "compute/clients/service_fault.h"

namespace kumoi::clients {
namespace {

// A token is renewed this long before its end, so that a request does not travel with a dead one.
constexpr int64_t kRenewBefore_ns = 120 * kNanosPerSecond;

Error missing(const AuthOptions& options, std::string_view what) {
    return Error::invalid("[{}] auth_type is {}, but {} is not set", options.section,
                          options.auth_type, what)
        .with_hint(fmt::format("set {} in section [{}]", what, options.section));
}

// {"id": ...} or {"name": ..., "domain": {...}}
Result<Json> named(const AuthOptions& options, std::string_view what, const std::string& id,
                   const std::string& name, const std::string& domain_id,
                   const std::string& domain_name) {
    if (!id.empty()) {
        return Json::object({{"id", id}});
    }
    if (name.empty()) {
        return missing(options, what);
    }
    Json domain = domain_id.empty()
                      ? Json::object({{"name", domain_name.empty() ? "Default" : domain_name}})
                      : Json::object({{"id", domain_id}});
    return Json::object({{"name", name}, {"domain", std::move(domain)}});
}

Result<Json> user_of(const AuthOptions& options) {
    return named(options, "username", options.user_id, options.username, options.user_domain_id,
                 options.user_domain_name);
}

Result<Json> password_identity(const AuthOptions& options) {
    Json user = TRY(user_of(options));
    user.set("password", options.password);
    return Json::object({{"methods", Json::array_of(std::vector<std::string>{"password"})},
                         {"password", Json::object({{"user", std::move(user)}})}});
}

Result<Json> application_credential_identity(const AuthOptions& options) {
    if (options.application_credential_secret.empty()) {
        return missing(options, "application_credential_secret");
    }
    Json credential = Json::object({{"secret", options.application_credential_secret}});
    if (!options.application_credential_id.empty()) {
        credential.set("id", options.application_credential_id);
    } else if (options.application_credential_name.empty()) {
        return missing(options, "application_credential_id");
    } else {
        Json user = TRY(user_of(options));
        credential.set("name", options.application_credential_name);
        credential.set("user", std::move(user));
    }
    return Json::object(
        {{"methods", Json::array_of(std::vector<std::string>{"application_credential"})},
         {"application_credential", std::move(credential)}});
}

Result<Json> token_identity(const AuthOptions& options) {
    if (options.token.empty()) {
        return missing(options, "token");
    }
    return Json::object({{"methods", Json::array_of(std::vector<std::string>{"token"})},
                         {"token", Json::object({{"id", options.token}})}});
}

Result<Json> identity_of(const AuthOptions& options) {
    if (options.auth_type == "password" || options.auth_type == "v3password") {
        return password_identity(options);
    }
    if (options.auth_type == "v3applicationcredential") {
        return application_credential_identity(options);
    }
    if (options.auth_type == "token" || options.auth_type == "v3token") {
        return token_identity(options);
    }
    return Error::unsupported("[{}] auth_type {} is not offered", options.section,
                              options.auth_type)
        .with_hint("use password, v3applicationcredential, token or none");
}

// nullopt: unscoped, or the scope is the credential's own.
Result<std::optional<Json>> scope_of(const AuthOptions& options) {
    std::optional<Json> scope;
    if (options.auth_type == "v3applicationcredential") {
        return scope;
    }
    if (!options.trust_id.empty()) {
        scope = Json::object({{"OS-TRUST:trust", Json::object({{"id", options.trust_id}})}});
    } else if (!options.system_scope.empty()) {
        scope = Json::object({{"system", Json::object({{options.system_scope, true}})}});
    } else if (!options.project_id.empty() || !options.project_name.empty()) {
        Json project = TRY(named(options, "project_name", options.project_id, options.project_name,
                                 options.project_domain_id, options.project_domain_name));
        scope = Json::object({{"project", std::move(project)}});
    } else if (!options.domain_id.empty() || !options.domain_name.empty()) {
        Json domain = options.domain_id.empty() ? Json::object({{"name", options.domain_name}})
                                                : Json::object({{"id", options.domain_id}});
        scope = Json::object({{"domain", std::move(domain)}});
    }
    return scope;
}

}  // namespace

Result<Json> auth_request(const AuthOptions& options) {
    Json auth = Json::object();
    Json identity = TRY(identity_of(options));
    auth.set("identity", std::move(identity));
    if (auto scope = TRY(scope_of(options))) {
        auth.set("scope", std::move(*scope));
    }
    return Json::object({{"auth", std::move(auth)}});
}

std::string identity_v3_url(std::string auth_url) {
    while (auth_url.ends_with('/')) {
        auth_url.pop_back();
    }
    if (auth_url.ends_with("/v2.0")) {
        auth_url.resize(auth_url.size() - 5);
    }
    return auth_url.ends_with("/v3") ? auth_url : auth_url + "/v3";
}

Result<KeystoneToken> KeystoneToken::parse(const Json& body, std::string id) {
    const JsonView view = TRY(JsonView(body).object("token"));
    KeystoneToken token;
    token.id = std::move(id);
    const std::string expires = TRY(view.string("expires_at"));
    const auto expires_ns = parse_iso8601(expires);
    if (!expires_ns) {
        return Error::invalid("token.expires_at: '{}' is no time", expires);
    }
    token.expires_ns = *expires_ns;
    token.issued_ns = parse_iso8601(view.json().string_or("issued_at")).value_or(0);
    if (const Json* user = view.json().find("user")) {
        token.user_id = user->string_or("id");
        token.user_name = user->string_or("name");
    }
    if (const Json* project = view.json().find("project")) {
        token.project_id = project->string_or("id");
        token.project_name = project->string_or("name");
    }
    if (const Json* roles = view.json().find("roles"); roles != nullptr && roles->is_array()) {
        for (const Json& role : roles->as_array()) {
            token.roles.push_back(role.string_or("name"));
        }
    }
    if (const Json* catalog = view.json().find("catalog")) {
        token.catalog = TRY_CONTEXT(ServiceCatalog::parse(*catalog), "token.catalog");
    }
    return token;
}

Result<std::shared_ptr<const KeystoneToken>> KeystoneSession::token() {
    if (auto fresh = fresh_token()) {
        return fresh;
    }
    const std::lock_guard renewal(renewal_mutex_);
    if (auto fresh = fresh_token()) {  // another thread fetched it meanwhile
        return fresh;
    }
    auto next = std::make_shared<const KeystoneToken>(TRY(authenticate()));
    const std::lock_guard lock(mutex_);
    token_ = next;
    return next;
}

std::shared_ptr<const KeystoneToken> KeystoneSession::fresh_token() const {
    const std::lock_guard lock(mutex_);
    if (token_ == nullptr) {
        return nullptr;
    }
    const int64_t life_ns = token_->expires_ns - token_->issued_ns;
    const int64_t margin_ns = std::clamp<int64_t>(life_ns / 4, 0, kRenewBefore_ns);
    return clock_.wall_ns() + margin_ns < token_->expires_ns ? token_ : nullptr;
}

void KeystoneSession::forget(const std::string& token_id) {
    const std::lock_guard lock(mutex_);
    if (token_ != nullptr && token_->id == token_id) {
        token_ = nullptr;
    }
}

Result<KeystoneToken> KeystoneSession::authenticate() {
    if (without_tokens()) {
        KeystoneToken token;
        token.expires_ns = INT64_MAX;
        return token;
    }
    if (options_.auth_url.empty()) {
        return missing(options_, "auth_url");
    }
    const Json body = TRY(auth_request(options_));
    HttpRequest request{
        .method = "POST",
        .url = identity_v3_url(options_.auth_url) + "/auth/tokens",
        .headers = {{"Content-Type", "application/json"}, {"Accept", "application/json"}},
        .body = body.dump(),
        .repeatable = true};
    const HttpReply reply =
        TRY_CONTEXT(transport_.send(request), "getting a token for [{}]", options_.section);
    if (reply.status != 201 && reply.status != 200) {
        Error error =
            refusal("Keystone", fmt::format("give [{}] a token", options_.section), reply);
        if (reply.status == 401) {
            error.hint = fmt::format("check user, password, project and domains of section [{}]",
                                     options_.section);
        }
        return error;
    }
    const auto id = reply.headers.first("X-Subject-Token");
    if (!id || id->empty()) {
        return Error::corrupt("Keystone's reply at {} has no X-Subject-Token", request.url);
    }
    const Json answer = TRY_CONTEXT(reply.json(), "Keystone's token");
    KeystoneToken token = TRY_CONTEXT(KeystoneToken::parse(answer, *id), "Keystone's token");
    log_debug("clients", "got a token",
              {{"section", options_.section}, {"expires", iso8601(token.expires_ns)}});
    return token;
}

Result<std::string> KeystoneSession::endpoint(const ServiceOptions& service) {
    if (!service.endpoint_override.empty()) {
        return service.endpoint_override;
    }
    const auto own = TRY(token());
    const auto url = own->catalog.find(service.service_type, service.service_name,
                                       service.interfaces, service.region_name);
    if (!url) {
        return Error::not_found("The catalog has no endpoint of type {} in region '{}'",
                                service.service_type, service.region_name)
            .with_hint(fmt::format("it has {}; set endpoint_override, region_name or "
                                   "valid_interfaces",
                                   own->catalog.type_names()))
            .with_fault("EndpointNotFound");
    }
    return *url;
}

Result<KeystoneToken> KeystoneSession::validate(const std::string& user_token, bool allow_expired) {
    for (int attempt = 1;; ++attempt) {
        const auto own = TRY(token());
        HttpRequest request{.url = identity_v3_url(options_.auth_url) + "/auth/tokens" +
                                   (allow_expired ? "?allow_expired=1" : ""),
                            .headers = {{"X-Auth-Token", own->id},
                                        {"X-Subject-Token", user_token},
                                        {"Accept", "application/json"}}};
        const HttpReply reply = TRY(transport_.send(request));
        if (reply.ok()) {
            const Json body = TRY_CONTEXT(reply.json(), "Keystone's token");
            return KeystoneToken::parse(body, user_token);
        }
        if (reply.status == 404) {
            return Error::unauthenticated("Keystone does not know this token (any more)");
        }
        if (reply.status != 401 || attempt == 2) {
            return refusal("Keystone", "look at a token", reply);
        }
        forget(own->id);
    }
}

}  // namespace kumoi::clients
