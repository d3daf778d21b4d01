#include "api/rest/image/image_handlers.h"

#include "api/rest/auth_middleware.h"
#include "api/rest/fault.h"
#include "api/rest/image/image_access.h"
#include "api/rest/image/image_attributes.h"
#include "api/rest/image/image_list.h"
#include "api/rest/image/image_patch.h"
#include "api/rest/image/image_view.h"

namespace kumoi::api {
namespace {

using compute::Image;
using compute::ImageStore;

Result<Reply> create_image(Request& request, ImageStore& store) {
    const AuthContext& who = auth_of(request);
    TRY(image_policy().authorize(who, "add_image"));
    const Json body = TRY(request.json());
    if (!body.is_object()) {
        return Error::invalid("Request body must be a JSON object.");
    }
    Image image;
    image.owner = who.project_id;
    if (const Json* owner = body.find("owner")) {  // first: visibility is judged against it
        TRY(set_image_attribute(image, "owner", *owner, AttributeUse::Create, who));
    }
    if (image.owner.empty()) {
        return Error::forbidden("An image needs an owner, and the token has no project scope")
            .with_hint("ask for a token of a project");
    }
    for (const auto& [name, value] : body.as_object()) {
        TRY(set_image_attribute(image, name, value, AttributeUse::Create, who));
    }
    const Image stored = TRY(store.add(std::move(image)));
    return Reply::json(show_image(stored), 201)
        .with_header("Location", request.base_url() + "/v2/images/" + stored.id);
}

Result<Reply> update_image(Request& request, ImageStore& store) {
    const AuthContext& who = auth_of(request);
    const std::string& id = request.parameter("image_id");
    TRY(image_for(store, who, id, "modify_image"));
    const auto operations = TRY(parse_image_patch(request.content_type(), request.body));
    const Image changed = TRY(
        store.change(id, [&](Image& image) { return apply_image_patch(image, operations, who); }));
    return Reply::json(show_image(changed));
}

Result<Reply> delete_image(Request& request, ImageStore& store) {
    const std::string& id = request.parameter("image_id");
    TRY(image_for(store, auth_of(request), id, "delete_image"));
    TRY(store.remove(id));
    return Reply::no_content();
}

Result<Reply> add_tag(Request& request, ImageStore& store) {
    const std::string& id = request.parameter("image_id");
    TRY(image_for(store, auth_of(request), id, "modify_image"));
    const std::string tag = TRY(check_tag(Json(request.parameter("tag"))));
    TRY(store.change(id, [&](Image& image) -> Result<void> {
        image.tags.insert(tag);
        if (image.tags.size() > kImageTagsMax) {
            return Error::too_large("The image has {} tags, the most there may be", kImageTagsMax);
        }
        return {};
    }));
    return Reply::no_content();
}

Result<Reply> remove_tag(Request& request, ImageStore& store) {
    const std::string& id = request.parameter("image_id");
    const std::string& tag = request.parameter("tag");
    TRY(image_for(store, auth_of(request), id, "modify_image"));
    TRY(store.change(id, [&](Image& image) -> Result<void> {
        if (image.tags.erase(tag) == 0) {
            return Error::not_found("The image {} has no tag {}", id, tag);
        }
        return {};
    }));
    return Reply::no_content();
}

Result<Reply> set_activity(Request& request, ImageStore& store, const char* rule, const char* from,
                           const char* to) {
    const std::string& id = request.parameter("image_id");
    TRY(image_for(store, auth_of(request), id, rule));
    TRY(store.change(id, [&](Image& image) -> Result<void> {
        if (image.status != from && image.status != to) {
            return Error::forbidden("Not allowed to {} image in status '{}'", rule, image.status);
        }
        image.status = to;
        return {};
    }));
    return Reply::no_content();
}

}  // namespace

void add_image_routes(Router& router, ImageStore& store) {
    const auto handle = [&store](auto function) {
        return answer(ApiShape::Glance,
                      [&store, function](Request& request) { return function(request, store); });
    };
    router.get("/v2/images", handle([](Request& request, ImageStore& images) -> Result<Reply> {
                   return Reply::json(TRY(list_images(images, auth_of(request), request.query)));
               }));
    router.get(
        "/v2/images/{image_id}", handle([](Request& request, ImageStore& images) -> Result<Reply> {
            return Reply::json(show_image(
                TRY(visible_image(images, auth_of(request), request.parameter("image_id")))));
        }));
    router.post("/v2/images", handle(create_image));
    router.patch("/v2/images/{image_id}", handle(update_image));
    router.del("/v2/images/{image_id}", handle(delete_image));
    router.put("/v2/images/{image_id}/tags/{tag}", handle(add_tag));
    router.del("/v2/images/{image_id}/tags/{tag}", handle(remove_tag));
    router.post("/v2/images/{image_id}/actions/deactivate",
                handle([](Request& request, ImageStore& images) {
                    return set_activity(request, images, "deactivate", "active", "deactivated");
                }));
    router.post("/v2/images/{image_id}/actions/reactivate",
                handle([](Request& request, ImageStore& images) {
                    return set_activity(request, images, "reactivate", "deactivated", "active");
                }));
}

}  // namespace kumoi::api
