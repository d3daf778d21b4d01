#include "compute/clients/service_client.h"

#include "base/log.h"

namespace kumoi::clients {
namespace {

void replace_all(std::string& text, std::string_view from, const std::string& to) {
    for (size_t place = text.find(from); place != std::string::npos;
         place = text.find(from, place + to.size())) {
        text.replace(place, from.size(), to);
    }
}

// "%(project_id)s" of endpoint_template and its older spellings.
std::string fill_project(std::string url, const std::string& project_id) {
    for (const char* name : {"project_id", "tenant_id"}) {
        replace_all(url, fmt::format("%({})s", name), project_id);
        replace_all(url, fmt::format("$({})s", name), project_id);
    }
    while (url.ends_with('/')) {
        url.pop_back();
    }
    return url;
}

}  // namespace

Caller caller_from_wire(const Json* wire, std::string request_id, std::string project_id) {
    Caller caller{std::move(request_id), {}, std::move(project_id), nullptr};
    if (wire == nullptr) {
        return caller;
    }
    // Nova sends on the id under which the whole operation is known, where there is one.
    caller.request_id = wire->string_or("global_request_id", caller.request_id);
    if (caller.request_id.empty()) {
        caller.request_id = wire->string_or("request_id");
    }
    caller.user_token = wire->string_or("auth_token");
    if (caller.project_id.empty()) {
        caller.project_id = wire->string_or("project_id");
    }
    if (const Json* catalog = wire->find("service_catalog")) {
        if (auto parsed = ServiceCatalog::parse(*catalog); parsed.ok()) {
            caller.catalog = std::make_shared<const ServiceCatalog>(std::move(parsed).value());
        }
    }
    return caller;
}

Caller caller_of(const compute::RequestContext& context) {
    return caller_from_wire(context.wire.get(), context.request_id, context.project_id);
}

Result<std::string> ServiceClient::endpoint(const Caller& caller) {
    if (!options_.endpoint_override.empty()) {
        // Services refuse an address with another project than the token's.
        return fill_project(options_.endpoint_override, caller.user_token.empty()
                                                            ? TRY(own_project(caller))
                                                            : caller.project_id);
    }
    if (!caller.user_token.empty() && caller.catalog != nullptr) {
        if (const auto url = caller.catalog->find(options_.service_type, options_.service_name,
                                                  options_.interfaces, options_.region_name)) {
            return fill_project(*url, caller.project_id);
        }
    }
    if (parts_.session == nullptr) {
        return Error::not_found(
                   "{} has no known address: its section has no endpoint_override, "
                   "and the request's catalog no {}",
                   name_, options_.service_type)
            .with_fault("EndpointNotFound");
    }
    std::string url = fill_project(TRY(parts_.session->endpoint(options_)), caller.project_id);
    // Our own catalog has our own project in Cinder's address; a user's volumes are elsewhere.
    if (!caller.user_token.empty() && !caller.project_id.empty()) {
        const auto own = TRY(parts_.session->token());
        if (!own->project_id.empty() && url.ends_with("/" + own->project_id)) {
            url.replace(url.size() - own->project_id.size(), std::string::npos, caller.project_id);
        }
    }
    return url;
}

Result<std::string> ServiceClient::own_project(const Caller& caller) {
    if (parts_.session == nullptr) {
        return caller.project_id;
    }
    const auto own = TRY(parts_.session->token());
    return own->project_id.empty() ? caller.project_id : own->project_id;
}

Result<ServiceClient::Tokens> ServiceClient::tokens_for(const Caller& caller) {
    Tokens tokens;
    if (!caller.user_token.empty()) {
        tokens.user = caller.user_token;
    } else if (parts_.session == nullptr) {
        return Error::unauthenticated(
                   "{} can't be asked: the request has no user's token and the "
                   "service's section no credentials",
                   name_)
            .with_hint("set auth_url, username, password and project_name in that section");
    } else {
        tokens.user = TRY(parts_.session->token())->id;
        tokens.user_is_ours = true;
    }
    if (parts_.service_user != nullptr) {
        tokens.service = TRY(parts_.service_user->token())->id;
    }
    return tokens;
}

Result<HttpReply> ServiceClient::send_once(const Caller& caller, const ServiceRequest& request,
                                           const Tokens& tokens) {
    const std::string base = TRY(endpoint(caller));
    HttpRequest http{.method = request.method,
                     .url = base + request.path,
                     .headers = request.headers,
                     .source = request.source,
                     .source_length = request.source_length,
                     .sink = request.sink,
                     .head = request.head,
                     .timeout_ms = request.timeout_ms};
    if (!http.headers.has("Accept")) {
        http.headers.add("Accept", "application/json");
    }
    if (request.body) {
        http.body = request.body->dump();
        if (!http.headers.has("Content-Type")) {
            http.headers.add("Content-Type", "application/json");
        }
    }
    if (!request.microversion.empty()) {
        http.headers.add("OpenStack-API-Version",
                         options_.version_service + " " + request.microversion);
    }
    if (!tokens.user.empty()) {
        http.headers.add("X-Auth-Token", tokens.user);
    }
    if (!tokens.service.empty()) {
        http.headers.add("X-Service-Token", tokens.service);
    }
    if (!caller.request_id.empty()) {
        http.headers.add("X-Openstack-Request-Id", caller.request_id);
    }
    return parts_.transport.send(http, request.retries.value_or(options_.retries));
}

Result<HttpReply> ServiceClient::send(const Caller& caller, const ServiceRequest& request) {
    const Tokens tokens = TRY(tokens_for(caller));
    auto reply = send_once(caller, request, tokens);
    if (!reply.ok() || reply.value().status != 401) {
        return reply;
    }
    // One of ours may have been revoked before its time. A user's token alone can't be renewed.
    if (!tokens.user_is_ours && tokens.service.empty()) {
        return reply;
    }
    log_info("clients", "a token was refused and is renewed", {{"service", name_}});
    if (tokens.user_is_ours) {
        parts_.session->forget(tokens.user);
    }
    if (!tokens.service.empty()) {
        parts_.service_user->forget(tokens.service);
    }
    return send_once(caller, request, TRY(tokens_for(caller)));
}

}  // namespace kumoi::clients
