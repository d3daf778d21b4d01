#include "api/rest/image/image_members.h"

#include "api/rest/auth_middleware.h"
#include "api/rest/fault.h"
#include "api/rest/image/image_access.h"
#include "api/rest/image/image_view.h"

namespace kumoi::api {
namespace {

using compute::Image;
using compute::ImageMember;
using compute::ImageStore;

Error no_such_member(const std::string& image_id, const std::string& member_id) {
    return Error::not_found("{} not found in the member list of the image {}.", member_id,
                            image_id);
}

bool is_owner(const AuthContext& who, const Image& image) {
    return who.is_admin || (!who.project_id.empty() && who.project_id == image.owner);
}

Result<Image> shared_image(ImageStore& store, const Request& request, std::string_view rule) {
    Image image = TRY(image_for(store, auth_of(request), request.parameter("image_id"), rule));
    if (image.visibility != "shared") {
        return Error::forbidden("Only shared images have members; image {} is {}", image.id,
                                image.visibility)
            .with_hint("openstack image set --shared " + image.id);
    }
    return image;
}

// The owner sees every member, a member sees itself.
Result<Reply> list_members(Request& request, ImageStore& store) {
    const AuthContext& who = auth_of(request);
    const Image image = TRY(visible_image(store, who, request.parameter("image_id")));
    if (image.visibility != "shared") {
        return Error::not_found("Only shared images have members.");
    }
    Json members = Json::array();
    for (const ImageMember& member : store.members(image.id)) {
        if (is_owner(who, image) || member.member_id == who.project_id) {
            members.push_back(show_member(member));
        }
    }
    return Reply::json(
        Json::object({{"members", std::move(members)}, {"schema", "/v2/schemas/members"}}));
}

Result<Reply> show_one_member(Request& request, ImageStore& store) {
    const AuthContext& who = auth_of(request);
    const Image image = TRY(visible_image(store, who, request.parameter("image_id")));
    const std::string& member_id = request.parameter("member_id");
    const auto member = store.member(image.id, member_id);
    if (!member || (!is_owner(who, image) && member_id != who.project_id)) {
        return no_such_member(image.id, member_id);
    }
    return Reply::json(show_member(*member));
}

Result<Reply> add_member(Request& request, ImageStore& store) {
    const Image image = TRY(shared_image(store, request, "add_member"));
    const Json body = TRY(request.json());
    const std::string member_id = TRY(JsonView(body).string("member"));
    if (member_id.empty() || member_id.size() > 255) {
        return Error::invalid("member: a project id of 1 to 255 characters is expected");
    }
    return Reply::json(show_member(TRY(store.add_member(image.id, member_id))));
}

Result<Reply> update_member(Request& request, ImageStore& store) {
    const AuthContext& who = auth_of(request);
    const Image image = TRY(visible_image(store, who, request.parameter("image_id")));
    const std::string& member_id = request.parameter("member_id");
    if (!who.is_admin && who.project_id != member_id) {
        if (!is_owner(who, image)) {
            return no_such_member(image.id, member_id);
        }
        return Error::forbidden("Only the member itself may accept or reject an image.");
    }
    if (!who.can_write()) {
        return Error::forbidden("Changing a membership needs the role member.");
    }
    const Json body = TRY(request.json());
    const std::string status = TRY(JsonView(body).string("status"));
    if (status != "pending" && status != "accepted" && status != "rejected") {
        return Error::invalid("status: '{}' is not one of pending, accepted, rejected", status);
    }
    return Reply::json(show_member(TRY(store.set_member_status(image.id, member_id, status))));
}

Result<Reply> remove_member(Request& request, ImageStore& store) {
    const Image image = TRY(shared_image(store, request, "delete_member"));
    TRY(store.remove_member(image.id, request.parameter("member_id")));
    return Reply::no_content();
}

}  // namespace

void add_image_member_routes(Router& router, ImageStore& store) {
    const auto handle = [&store](auto function) {
        return answer(ApiShape::Glance,
                      [&store, function](Request& request) { return function(request, store); });
    };
    router.get("/v2/images/{image_id}/members", handle(list_members));
    router.post("/v2/images/{image_id}/members", handle(add_member));
    router.get("/v2/images/{image_id}/members/{member_id}", handle(show_one_member));
    router.put("/v2/images/{image_id}/members/{member_id}", handle(update_member));
    router.del("/v2/images/{image_id}/members/{member_id}", handle(remove_member));
}

}  // namespace kumoi::api
