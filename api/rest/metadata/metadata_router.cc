#include "api/rest/metadata/metadata_router.h"

#include "api/rest/fault.h"
#include "compute/server_password.h"

namespace kumoi::api {
namespace {

Reply refusal(int status, const std::string& message) {
    return Reply::text(message + "\n", status);
}

std::string decoded_path(const Request& request) {
    std::string path;
    for (const std::string& segment : request.segments) {
        path += "/" + segment;
    }
    return request.path.ends_with('/') || path.empty() ? path + "/" : path;
}

class MetadataHandlers {
public:
    MetadataHandlers(const MetadataDependencies& dependencies, compute::MetadataOptions options)
        : dependencies_(dependencies),
          options_(std::move(options)),
          unknown_(dependencies.metrics.counter(
              "kumoi_metadata_unknown_peers_total",
              "Metadata requests from addresses that belong to no server.")) {}

    Reply get(Request& request) {
        const auto instance = server_of(request);
        if (!instance.ok()) {
            return refuse(instance.error());
        }
        if (is_password_path(request)) {
            return Reply::text(compute::stored_password(instance->system_metadata));
        }
        const auto vifs = dependencies_.networks.network_info(instance->uuid);
        if (!vifs.ok()) {
            return refuse(vifs.error());
        }
        compute::MetadataOptions options = options_;
        options.devices = compute::tagged_nics(instance->network_info);
        const auto metadata =
            compute::InstanceMetadata::build(*instance, *vifs, options, dependencies_.random);
        const std::string path = decoded_path(request);
        auto body = metadata.lookup(path);
        if (!body) {
            return refusal(404, "No metadata at " + path);
        }
        return Reply::text(std::move(*body), 200, compute::InstanceMetadata::content_type(path));
    }

    // A guest (cloudbase-init) tells once which password it made, encrypted for the user's key.
    Reply set_password(Request& request) {
        const auto instance = server_of(request);
        if (!instance.ok()) {
            return refuse(instance.error());
        }
        if (request.body.empty() || request.body.size() > compute::kStoredPasswordMax) {
            return refusal(400, fmt::format("A password has 1 to {} bytes, this one has {}",
                                            compute::kStoredPasswordMax, request.body.size()));
        }
        if (!compute::stored_password(instance->system_metadata).empty()) {
            return refusal(409, "The password of this server is set already");
        }
        compute::InstanceUpdate update;
        update.system_metadata = instance->system_metadata;
        for (const auto& [key, piece] : compute::password_pieces(request.body)) {
            (*update.system_metadata)[key] = piece;
        }
        const auto saved = dependencies_.conductor.instance_save(instance->uuid, update);
        return saved.ok() ? Reply::ok() : refuse(saved.error());
    }

private:
    static bool is_password_path(const Request& request) {
        return request.segments.size() == 3 && request.segments[0] == "openstack" &&
               request.segments[2] == "password";
    }
    Result<compute::Instance> server_of(const Request& request) {
        const MetadataPeer* peer = request.attachment<MetadataPeer>();
        KUMOI_ASSERT(peer != nullptr);
        auto uuid = dependencies_.networks.server_at(peer->network_id, peer->address);
        if (!uuid.ok()) {
            unknown_.increment();
            return std::move(uuid).error();
        }
        return dependencies_.conductor.instance_get(*uuid);
    }
    // The guest learns that there is nothing for it, not why.
    static Reply refuse(const Error& error) {
        const bool absent = error.code == ErrorCode::NotFound;
        return absent ? refusal(404, "No server has the address this request came from")
                      : refusal(503, "Metadata cannot be read now; try again");
    }

    const MetadataDependencies dependencies_;
    const compute::MetadataOptions options_;
    Counter& unknown_;
};

}  // namespace

Router make_metadata_router(const MetadataDependencies& dependencies,
                            compute::MetadataOptions options) {
    options.with_admin_password = false;  // never over the network
    // Shared: routes are copyable functions, and both live as long as the router.
    const auto handlers = std::make_shared<MetadataHandlers>(dependencies, std::move(options));
    Router router;
    router.set_error_renderer([](const HttpRefusal& refused, const Request*) {
        return refusal(refused.status, refused.message);
    });
    router.get("/{path...}", [handlers](Request& request) { return handlers->get(request); });
    router.post("/openstack/{version}/password",
                [handlers](Request& request) { return handlers->set_password(request); });
    // The literal route above hides the general one for this path's other methods.
    router.get("/openstack/{version}/password",
               [handlers](Request& request) { return handlers->get(request); });
    return router;
}

}  // namespace kumoi::api
