#include "api/rest/image/image_router.h"

#include "api/rest/fault.h"
#include "api/rest/image/image_data.h"
#include "api/rest/image/image_handlers.h"
#include "api/rest/image/image_members.h"
#include "api/rest/image/image_schemas.h"

namespace kumoi::api {

Router make_image_router(const ImageService& service) {
    Router router;
    router.set_error_renderer(fault_renderer(ApiShape::Glance));
    router.use(authenticate(service.validator, {.identity_uri = service.identity_uri,
                                                .open_routes = {"/", "/versions", "/v2"}}));
    add_image_version_routes(router);
    add_image_schema_routes(router);
    add_image_routes(router, service.store);
    add_image_data_routes(router, service.store);
    add_image_member_routes(router, service.store);
    return router;
}

}  // namespace kumoi::api
