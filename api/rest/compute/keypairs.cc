// Key pairs: import of SSH public keys, generation (below 2.92), list, show, delete. They belong to
// a user, not to a project; administrators may name another user from 2.10 on.
#include <algorithm>

#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"
#include "api/rest/schema.h"
#include "compute/ssh_key.h"

namespace kumoi::api {
namespace {

using compute::Keypair;

// Whose keys: the caller's, or ?user_id= of an administrator's request.
Result<std::string> owner(const Call& call, std::string_view rule,
                          const std::optional<std::string>& in_body = std::nullopt) {
    std::string user = call.who.user_id;
    if (call.at_least(10)) {
        user = in_body.value_or(call.request.query.first_or("user_id", user));
    }
    TRY(call.authorize(rule, {{}, user}));
    return user;
}

Json summary_view(const Call& call, const Keypair& keypair) {
    Json view = Json::object({{"name", keypair.name},
                              {"public_key", keypair.public_key},
                              {"fingerprint", keypair.fingerprint}});
    if (call.at_least(2)) {
        view.set("type", keypair.type);
    }
    return view;
}

Result<Reply> list_keypairs(Call& call) {
    const std::string user = TRY(owner(call, "os_compute_api:os-keypairs:index"));
    std::vector<Keypair> keypairs = TRY(call.conductor().keypairs().list(user));
    Page page;
    if (call.at_least(35)) {
        page = TRY(page_of(call.request, call.services.osapi_max_limit));
        if (page.marker) {
            const size_t before = keypairs.size();
            while (!keypairs.empty() && keypairs.front().name != *page.marker) {
                keypairs.erase(keypairs.begin());
            }
            if (before != 0 && keypairs.empty()) {
                return Error::invalid("marker [{}] not found", *page.marker);
            }
            keypairs.erase(keypairs.begin(), keypairs.begin() + (keypairs.empty() ? 0 : 1));
        }
    }
    const bool full = keypairs.size() >= page.limit && !keypairs.empty();
    keypairs.resize(std::min(keypairs.size(), page.limit));
    Json views = Json::array();
    for (const Keypair& keypair : keypairs) {
        views.push_back(Json::object({{"keypair", summary_view(call, keypair)}}));
    }
    Json body = Json::object({{"keypairs", std::move(views)}});
    if (call.at_least(35) && full) {
        body.set("keypairs_links", next_links(call.request, call.versioned_url() + "/os-keypairs",
                                              page, keypairs.back().name));
    }
    return Reply::json(body);
}

Result<Reply> show_keypair(Call& call) {
    const std::string user = TRY(owner(call, "os_compute_api:os-keypairs:show"));
    const Keypair keypair = TRY(call.conductor().keypairs().get(user, call.parameter("name")));
    Json view = summary_view(call, keypair);
    view.set("created_at", iso8601_micros(keypair.created_ns).substr(0, 26));
    view.set("deleted", false);
    view.set("deleted_at", Json());
    view.set("id", keypair.id);
    view.set("user_id", keypair.user_id);
    view.set("updated_at", Json());
    return Reply::json(Json::object({{"keypair", std::move(view)}}));
}

Result<std::string> parse_type(const Call& call, Fields& fields) {
    if (!call.at_least(2)) {
        return std::string("ssh");
    }
    const std::string type = TRY(fields.optional_text("type")).value_or("ssh");
    if (type == "x509") {
        return Error::invalid("Keypairs of type x509 are not supported here.")
            .with_hint("Servers are reached by SSH; import an SSH public key (type ssh).");
    }
    if (type != "ssh") {
        return invalid_input("type", Json(type),
                             fmt::format("'{}' is not one of ['ssh', 'x509']", type));
    }
    return type;
}

Result<Reply> create_keypair(Call& call) {
    const Json body = TRY(call.body());
    Fields fields = TRY(Fields::root(body, "keypair"));
    Keypair keypair;
    keypair.name = TRY(fields.name("name"));
    keypair.type = TRY(parse_type(call, fields));
    const auto in_body =
        call.at_least(10) ? TRY(fields.optional_text("user_id")) : std::optional<std::string>();
    if (call.at_least(92)) {
        TRY(fields.require("public_key"));
    }
    const auto public_key = TRY(fields.optional_text("public_key", {1, 65535}));
    TRY(fields.finish());
    keypair.user_id = TRY(owner(call, "os_compute_api:os-keypairs:create", in_body));
    std::string private_key;
    if (public_key) {
        const compute::SshPublicKey key = TRY(compute::parse_ssh_public_key(*public_key));
        keypair.public_key = *public_key;
        keypair.fingerprint = key.fingerprint_md5;
    } else {
        const compute::SshKeypair pair =
            TRY(compute::generate_ssh_keypair(compute::SshKeyKind::Rsa2048, "Generated-by-kumoi"));
        keypair.public_key = pair.public_key;
        keypair.fingerprint = pair.fingerprint_md5;
        private_key = pair.private_key;
    }
    const int64_t count_max = call.conductor().quotas().limit(call.who.project_id, "key_pairs");
    const Keypair stored = TRY(call.conductor().keypairs().create(keypair, count_max));
    Json view = summary_view(call, stored);
    view.set("user_id", stored.user_id);
    if (!private_key.empty()) {
        view.set("private_key", private_key);
    }
    return Reply::json(Json::object({{"keypair", std::move(view)}}), call.at_least(2) ? 201 : 200);
}

Result<Reply> delete_keypair(Call& call) {
    const std::string user = TRY(owner(call, "os_compute_api:os-keypairs:delete"));
    TRY(call.conductor().keypairs().remove(user, call.parameter("name")));
    return Reply::with_status(call.at_least(2) ? 204 : 202);
}

}  // namespace

void add_keypair_routes(ComputeRoutes& routes) {
    routes.add("GET", "/os-keypairs", list_keypairs);
    routes.add("POST", "/os-keypairs", create_keypair);
    routes.add("GET", "/os-keypairs/{name}", show_keypair);
    routes.add("DELETE", "/os-keypairs/{name}", delete_keypair);
}

}  // namespace kumoi::api
