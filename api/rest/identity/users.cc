// /v3/users: people and programs that log in by password.
#include "api/rest/identity/identity_routes.h"
#include "api/rest/identity/identity_views.h"

namespace kumoi::api::identity {
namespace {

using compute::identity::User;

Reply user_reply(const Request& request, const User& user, int status = 200) {
    return Reply::json(Json::object({{"user", user_view(v3_base(request), user)}}), status);
}

Result<void> read_common(const JsonView& object, User& user) {
    user.enabled = TRY(object.boolean_or("enabled", user.enabled));
    TRY(read_optional_text(object, "default_project_id", user.default_project_id));
    TRY(read_optional_text(object, "description", user.description));
    return read_optional_text(object, "email", user.email);
}

Result<Reply> create(Identity& identity, Request& request) {
    TRY(authorize(request, "identity:create_user"));
    const Json body = TRY(request.json());
    const JsonView object = TRY(JsonView(body).object("user"));
    User user{.name = TRY(read_name(object))};
    TRY(check_domain_id(object));
    TRY(read_common(object, user));
    std::optional<std::string> password;
    TRY(read_optional_text(object, "password", password));
    return user_reply(request, TRY(identity.create_user(std::move(user), password)), 201);
}

Result<Reply> update(Identity& identity, Request& request) {
    TRY(authorize(request, "identity:update_user"));
    const std::string& id = request.parameter("user_id");
    const Json body = TRY(request.json());
    const JsonView object = TRY(JsonView(body).object("user"));
    TRY(check_domain_id(object));
    const User changed = TRY(identity.store().update_user(id, [&](User& user) -> Result<void> {
        if (object.has("name")) {
            user.name = TRY(read_name(object));
        }
        return read_common(object, user);
    }));
    if (object.has("password")) {
        TRY(identity.set_password(id, TRY(object.string("password"))));
    }
    return user_reply(request, changed);
}

Result<Reply> change_password(Identity& identity, Request& request) {
    const std::string& id = request.parameter("user_id");
    if (auth_of(request).user_id != id) {
        return Error::forbidden("Users change only their own password this way.")
            .with_hint("An administrator sets another user's with PATCH /v3/users/{id}.");
    }
    const Json body = TRY(request.json());
    const JsonView object = TRY(JsonView(body).object("user"));
    TRY(identity.change_password(id, TRY(object.string("original_password")),
                                 TRY(object.string("password"))));
    return Reply::no_content();
}

}  // namespace

void add_user_routes(Router& router, Identity& identity) {
    route(router, "GET", "/v3/users", [&](Request& request) -> Result<Reply> {
        TRY(authorize(request, "identity:list_users"));
        const auto users = TRY(identity.store().users());
        return collection(request, "users", views(v3_base(request), users, user_view),
                          {"name", "enabled", "domain_id", "id"});
    });
    route(router, "POST", "/v3/users", [&](Request& request) { return create(identity, request); });
    route(router, "GET", "/v3/users/{user_id}", [&](Request& request) -> Result<Reply> {
        const std::string& id = request.parameter("user_id");
        TRY(authorize(request, "identity:get_user", {.user_id = id}));
        return user_reply(request, TRY(identity.store().user(id)));
    });
    route(router, "PATCH", "/v3/users/{user_id}",
          [&](Request& request) { return update(identity, request); });
    route(router, "DELETE", "/v3/users/{user_id}", [&](Request& request) -> Result<Reply> {
        TRY(authorize(request, "identity:delete_user"));
        TRY(identity.store().remove_user(request.parameter("user_id")));
        return Reply::no_content();
    });
    route(router, "POST", "/v3/users/{user_id}/password",
          [&](Request& request) { return change_password(identity, request); });
    route(router, "GET", "/v3/users/{user_id}/projects", [&](Request& request) -> Result<Reply> {
        const std::string& id = request.parameter("user_id");
        TRY(authorize(request, "identity:list_user_projects", {.user_id = id}));
        TRY(identity.store().user(id));
        const auto projects = TRY(identity.grants().projects_of(id));
        return collection(request, "projects", views(v3_base(request), projects, project_view),
                          {"name", "enabled", "domain_id"});
    });
}

}  // namespace kumoi::api::identity
