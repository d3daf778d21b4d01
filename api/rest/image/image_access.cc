#include "api/rest/image/image_access.h"

namespace kumoi::api {

const Policy& image_policy() {
    static const Policy policy({{"add_image", Check::ProjectMemberOrAdmin},
                                {"modify_image", Check::ProjectMemberOrAdmin},
                                {"delete_image", Check::ProjectMemberOrAdmin},
                                {"upload_image", Check::ProjectMemberOrAdmin},
                                {"publicize_image", Check::Admin},
                                {"communitize_image", Check::ProjectMemberOrAdmin},
                                {"add_member", Check::ProjectMemberOrAdmin},
                                {"delete_member", Check::ProjectMemberOrAdmin},
                                {"deactivate", Check::Admin},
                                {"reactivate", Check::Admin},
                                {"set_image_owner", Check::Admin}});
    return policy;
}

Result<compute::Image> visible_image(const compute::ImageStore& store, const AuthContext& who,
                                     const std::string& id) {
    compute::Image image = TRY(store.get(id));
    if (!image_visible_to(store, image, who.project_id, who.is_admin)) {
        return Error::not_found("No image found with ID {}", id).with_fault("ImageNotFound");
    }
    return image;
}

Result<compute::Image> image_for(const compute::ImageStore& store, const AuthContext& who,
                                 const std::string& id, std::string_view rule) {
    compute::Image image = TRY(visible_image(store, who, id));
    TRY(image_policy().authorize(who, rule, {.project_id = image.owner}));
    return image;
}

}  // namespace kumoi::api
