#include "compute/clients/cinder_client.h"

#include <algorithm>

#include "compute/clients/service_fault.h"

namespace kumoi::clients {
namespace {

constexpr const char* kAttachments = "3.44";
constexpr RetryPolicy kPatience{.attempts_max = 5, .first_wait_ms = 1'000, .wait_max_ms = 8'000};

std::string volume_path(const std::string& id, std::string_view below = {}) {
    return fmt::format("/volumes/{}{}", url_escape(id), below);
}

std::string attachment_path(const std::string& id, std::string_view below = {}) {
    return fmt::format("/attachments/{}{}", url_escape(id), below);
}

Error cinder_refusal(const std::string& what, const HttpReply& reply,
                     const std::string& missing_fault) {
    std::string fault = "CinderConnectionFailed";
    switch (reply.status) {
        case 400: fault = "InvalidInput"; break;
        case 401: fault = "Unauthorized"; break;
        case 403: fault = "Forbidden"; break;
        case 404: fault = missing_fault; break;
        case 409: fault = "InvalidVolume"; break;
        case 413: fault = "OverQuota"; break;
        default: break;
    }
    return refusal("Cinder", what, reply, std::move(fault));
}

Result<Json> member_of(const HttpReply& reply, const std::string& name, const std::string& what) {
    Json body = TRY_CONTEXT(reply.json(), "Cinder's reply to {}", what);
    Json* member = body.find(name);
    if (member == nullptr || !member->is_object()) {
        return Error::corrupt("Cinder's reply to {} has no {}", what, name);
    }
    return std::move(*member);
}

Json text_or_null(const std::string& text) {
    return text.empty() ? Json() : Json(text);
}

}  // namespace

Result<HttpReply> CinderClient::send(const Caller& caller, const ServiceRequest& request) {
    auto reply = service_.send(caller, request);
    if (!reply.ok() && reply.error().fault == kConnectFailure) {
        return std::move(reply).error().with_fault("CinderConnectionFailed");
    }
    return reply;
}

Result<HttpReply> CinderClient::send_patiently(const Caller& caller, const ServiceRequest& request,
                                               const std::vector<int>& statuses) {
    ServiceRequest once = request;
    once.retries = RetryPolicy{.attempts_max = 1};
    for (int attempt = 1;; ++attempt) {
        auto reply = send(caller, once);
        const bool again = reply.ok() ? std::find(statuses.begin(), statuses.end(),
                                                  reply.value().status) != statuses.end()
                                      : reply.error().code == ErrorCode::Unavailable;
        if (!again || attempt == kPatience.attempts_max) {
            return reply;
        }
        parts_.wait(retry_wait_ns(kPatience, attempt + 1, parts_.random));
    }
}

Result<Json> CinderClient::get_member(const Caller& caller, const std::string& path,
                                      const std::string& microversion, const std::string& member,
                                      const std::string& missing_fault) {
    const HttpReply reply = TRY(send(caller, {.path = path, .microversion = microversion}));
    if (!reply.ok()) {
        return cinder_refusal("GET " + path, reply, missing_fault);
    }
    return member_of(reply, member, "GET " + path);
}

Result<Volume> CinderClient::volume(const Caller& caller, const std::string& id) {
    const std::string path = volume_path(id);
    // shared_targets and service_uuid came with 3.48; an older Cinder does without.
    HttpReply reply = TRY(send(caller, {.path = path, .microversion = "3.48"}));
    if (reply.status == 406) {
        reply = TRY(send(caller, {.path = path}));
    }
    if (!reply.ok()) {
        return cinder_refusal("GET " + path, reply, "VolumeNotFound");
    }
    const Json json = TRY(member_of(reply, "volume", "GET " + path));
    return parse_volume(json);
}

Result<Volume> CinderClient::create_volume(const Caller& caller, const NewVolume& volume) {
    Json body = Json::object({{"size", volume.size_gb == 0 ? Json() : Json(volume.size_gb)},
                              {"consistencygroup_id", nullptr},
                              {"snapshot_id", text_or_null(volume.snapshot_id)},
                              {"name", volume.name},
                              {"description", volume.description},
                              {"volume_type", text_or_null(volume.volume_type)},
                              {"availability_zone", text_or_null(volume.availability_zone)},
                              {"metadata", Json::object()},
                              {"imageRef", text_or_null(volume.image_id)},
                              {"source_volid", text_or_null(volume.source_volume_id)},
                              {"backup_id", nullptr}});
    const HttpReply reply =
        TRY(send(caller, {.method = "POST",
                          .path = "/volumes",
                          .body = Json::object({{"volume", std::move(body)}})}));
    if (!reply.ok()) {
        return cinder_refusal("make a volume", reply, "VolumeNotFound");
    }
    const Json json = TRY(member_of(reply, "volume", "POST /volumes"));
    return parse_volume(json);
}

Result<void> CinderClient::delete_volume(const Caller& caller, const std::string& id) {
    const HttpReply reply = TRY(send(caller, {.method = "DELETE", .path = volume_path(id)}));
    if (reply.ok() || reply.status == 404) {
        return {};
    }
    return cinder_refusal("delete volume " + id, reply, "VolumeNotFound");
}

Result<Json> CinderClient::encryption(const Caller& caller, const std::string& id) {
    const std::string path = volume_path(id, "/encryption");
    const HttpReply reply = TRY(send(caller, {.path = path}));
    if (!reply.ok()) {
        return cinder_refusal("GET " + path, reply, "VolumeNotFound");
    }
    Json metadata = TRY_CONTEXT(reply.json(), "Cinder's reply to GET {}", path);
    if (metadata.string_or("encryption_key_id").empty()) {
        return Json::object();
    }
    return metadata;
}

Result<Json> CinderClient::snapshot(const Caller& caller, const std::string& id) {
    return get_member(caller, "/snapshots/" + url_escape(id), "", "snapshot", "SnapshotNotFound");
}

Result<VolumeAttachment> CinderClient::create_attachment(const Caller& caller,
                                                         const std::string& volume_id,
                                                         const std::string& instance_uuid,
                                                         const Json& connector,
                                                         const std::string& mode) {
    Json body = Json::object(
        {{"volume_uuid", volume_id}, {"connector", connector}, {"instance_uuid", instance_uuid}});
    if (!mode.empty()) {
        body.set("mode", mode);
    }
    const HttpReply reply =
        TRY(send(caller, {.method = "POST",
                          .path = "/attachments",
                          .body = Json::object({{"attachment", std::move(body)}}),
                          .microversion = mode.empty() ? kAttachments : "3.54"}));
    const std::string what = "make an attachment of volume " + volume_id;
    if (!reply.ok()) {
        return cinder_refusal(what, reply, "VolumeNotFound");
    }
    const Json json = TRY(member_of(reply, "attachment", what));
    return parse_attachment(json);
}

Result<VolumeAttachment> CinderClient::update_attachment(const Caller& caller,
                                                         const std::string& id,
                                                         const Json& connector) {
    const Json body = Json::object({{"attachment", Json::object({{"connector", connector}})}});
    const HttpReply reply = TRY(send_patiently(
        caller,
        {.method = "PUT", .path = attachment_path(id), .body = body, .microversion = kAttachments},
        {500, 502, 503, 504}));
    const std::string what = "connect attachment " + id;
    if (!reply.ok()) {
        return cinder_refusal(what, reply, "VolumeAttachmentNotFound");
    }
    const Json json = TRY(member_of(reply, "attachment", what));
    return parse_attachment(json);
}

Result<HttpReply> CinderClient::act(const Caller& caller, const std::string& path,
                                    const std::string& action, Json arguments,
                                    const std::string& microversion) {
    return send(caller, {.method = "POST",
                         .path = path + "/action",
                         .body = Json::object({{action, std::move(arguments)}}),
                         .microversion = microversion});
}

Result<void> CinderClient::complete_attachment(const Caller& caller, const std::string& id) {
    const HttpReply reply =
        TRY(act(caller, attachment_path(id), "os-complete", nullptr, kAttachments));
    if (!reply.ok()) {
        return cinder_refusal("complete attachment " + id, reply, "VolumeAttachmentNotFound");
    }
    return {};
}

Result<void> CinderClient::delete_attachment(const Caller& caller, const std::string& id) {
    const HttpReply reply = TRY(send_patiently(
        caller, {.method = "DELETE", .path = attachment_path(id), .microversion = kAttachments},
        {502, 503, 504}));
    if (reply.ok() || reply.status == 404) {
        return {};
    }
    return cinder_refusal("delete attachment " + id, reply, "VolumeAttachmentNotFound");
}

Result<VolumeAttachment> CinderClient::attachment(const Caller& caller, const std::string& id) {
    const Json json = TRY(get_member(caller, attachment_path(id), kAttachments, "attachment",
                                     "VolumeAttachmentNotFound"));
    return parse_attachment(json);
}

Result<std::vector<VolumeAttachment>> CinderClient::attachments(const Caller& caller,
                                                                const std::string& instance_uuid,
                                                                const std::string& volume_id) {
    QueryString query;
    query.add("instance_id", instance_uuid);
    if (!volume_id.empty()) {
        query.add("volume_id", volume_id);
    }
    if (caller.user_token.empty()) {  // ours, of another project than the server's
        query.add("all_tenants", "1");
    }
    const std::string path = "/attachments/detail" + query.text();
    const HttpReply reply = TRY(send(caller, {.path = path, .microversion = kAttachments}));
    if (!reply.ok()) {
        return cinder_refusal("GET " + path, reply, "VolumeAttachmentNotFound");
    }
    const Json body = TRY_CONTEXT(reply.json(), "Cinder's reply to GET {}", path);
    std::vector<VolumeAttachment> found;
    for (const JsonView& one : TRY(JsonView(body).array("attachments"))) {
        found.push_back(TRY(parse_attachment(one.json())));
    }
    return found;
}

Result<void> CinderClient::begin_detaching(const Caller& caller, const std::string& volume_id) {
    const HttpReply reply =
        TRY(act(caller, volume_path(volume_id), "os-begin_detaching", Json::object()));
    return reply.ok() ? Result<void>()
                      : cinder_refusal("begin to detach " + volume_id, reply, "VolumeNotFound");
}

Result<void> CinderClient::roll_detaching(const Caller& caller, const std::string& volume_id) {
    const HttpReply reply =
        TRY(act(caller, volume_path(volume_id), "os-roll_detaching", Json::object()));
    return reply.ok() ? Result<void>()
                      : cinder_refusal("keep volume " + volume_id, reply, "VolumeNotFound");
}

Result<void> CinderClient::reserve(const Caller& caller, const std::string& volume_id) {
    const HttpReply reply = TRY(act(caller, volume_path(volume_id), "os-reserve", Json::object()));
    return reply.ok() ? Result<void>()
                      : cinder_refusal("reserve volume " + volume_id, reply, "VolumeNotFound");
}

Result<void> CinderClient::unreserve(const Caller& caller, const std::string& volume_id) {
    const HttpReply reply =
        TRY(act(caller, volume_path(volume_id), "os-unreserve", Json::object()));
    return reply.ok() ? Result<void>()
                      : cinder_refusal("free volume " + volume_id, reply, "VolumeNotFound");
}

Result<std::string> CinderClient::complete_migration(const Caller& caller,
                                                     const std::string& old_volume_id,
                                                     const std::string& new_volume_id,
                                                     bool failed) {
    const HttpReply reply =
        TRY(act(caller, volume_path(old_volume_id), "os-migrate_volume_completion",
                Json::object({{"new_volume", new_volume_id}, {"error", failed}})));
    if (!reply.ok()) {
        return cinder_refusal("complete the migration of volume " + old_volume_id, reply,
                              "VolumeNotFound");
    }
    const Json body = TRY_CONTEXT(reply.json(), "Cinder's reply to a migration's completion");
    return JsonView(body).string("save_volume_id");
}

Result<void> CinderClient::reimage(const Caller& caller, const std::string& volume_id,
                                   const std::string& image_id, bool reimage_reserved) {
    const HttpReply reply = TRY(act(
        caller, volume_path(volume_id), "os-reimage",
        Json::object({{"image_id", image_id}, {"reimage_reserved", reimage_reserved}}), "3.68"));
    return reply.ok() ? Result<void>()
                      : cinder_refusal("reimage volume " + volume_id, reply, "VolumeNotFound");
}

Result<void> CinderClient::update_snapshot_status(const Caller& caller,
                                                  const std::string& snapshot_id,
                                                  const std::string& status) {
    const HttpReply reply =
        TRY(act(caller, "/snapshots/" + url_escape(snapshot_id), "os-update_snapshot_status",
                Json::object({{"status", status}, {"progress", "90%"}})));
    return reply.ok() ? Result<void>()
                      : cinder_refusal("set the status of snapshot " + snapshot_id, reply,
                                       "SnapshotNotFound");
}

}  // namespace kumoi::clients
