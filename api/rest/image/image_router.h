// The Image API v2 (Glance's): every route, in one place. Runs on the Beast server, since image
// data streams. Handlers run on any thread; the references must outlive the router.
//
//     Router router = make_image_router({.store = store, .validator = identity,
//                                        .identity_uri = "http://127.0.0.1:5000"});
//     auto server = TRY(make_beast_server({.name = "image", .port = 9292}, std::move(router), ..));
#pragma once

#include <string>

#include "api/http/router.h"
#include "api/rest/auth_middleware.h"
#include "compute/images/image_store.h"

namespace kumoi::api {

struct ImageService {
    compute::ImageStore& store;
    TokenValidator& validator;
    std::string identity_uri;  // told to clients that come without a token
};

Router make_image_router(const ImageService& service);

}  // namespace kumoi::api
