#include "api/nova/object_client.h"

#include "compute/manager/unsettled.h"

namespace kumoi::nova {
namespace {

constexpr char kConductorTopic[] = "conductor";
constexpr char kConductorVersion[] = "3.0";

// Not even a refusal: whether it was done nobody knows.
bool is_no_answer(const Error& error) {
    return error.code == ErrorCode::Timeout || error.code == ErrorCode::Unavailable ||
           error.fault == "MessagingTimeout";
}

}  // namespace

Json::Array text_arguments(std::initializer_list<std::string_view> values) {
    return Json::Array(values.begin(), values.end());
}

Result<Json> ObjectClient::call(const Json& context, const std::string& method, Json args) {
    amqp::Target target;
    target.topic = kConductorTopic;
    target.version = kConductorVersion;
    auto reply = rpc_.call(target, context, method, std::move(args));
    if (!reply.ok() && is_no_answer(reply.error())) {
        compute::UnsettledOperations::note_doubt();
    }
    return reply;
}

Result<Json> ObjectClient::class_action(const Json& context, std::string_view object,
                                        std::string_view method, Json::Array args, Json kwargs) {
    return call(context, "object_class_action_versions",
                Json::object({{"objname", object},
                              {"objmethod", method},
                              {"object_versions", table_.manifest(object)},
                              {"args", std::move(args)},
                              {"kwargs", std::move(kwargs)}}));
}

Result<NovaObject> ObjectClient::class_object(const Json& context, std::string_view object,
                                              std::string_view method, Json::Array args,
                                              Json kwargs) {
    Json found = TRY(class_action(context, object, method, std::move(args), std::move(kwargs)));
    if (found.is_null()) {
        return Error::not_found("{}.{} found nothing", object, method);
    }
    return receive(context, std::move(found));
}

Result<std::vector<NovaObject>> ObjectClient::class_objects(const Json& context,
                                                            std::string_view list,
                                                            std::string_view method,
                                                            Json::Array args, Json kwargs) {
    const NovaObject found =
        TRY(class_object(context, list, method, std::move(args), std::move(kwargs)));
    return found.objects();
}

Result<Json> ObjectClient::action(const Json& context, NovaObject& object, std::string_view method,
                                  Json::Array args, Json kwargs) {
    const Json reply = TRY(call(context, "object_action",
                                Json::object({{"objinst", object.primitive()},
                                              {"objmethod", method},
                                              {"args", std::move(args)},
                                              {"kwargs", std::move(kwargs)}})));
    if (!reply.is_array() || reply.size() != 2) {
        return Error::invalid("{}.{}: conductor's answer is not [updates, result]", object.name(),
                              method);
    }
    TRY(object.apply_updates(reply.as_array()[0]));
    return reply.as_array()[1];
}

Result<NovaObject> ObjectClient::receive(const Json& context, Json primitive) {
    auto object = TRY(NovaObject::parse(table_, primitive));
    if (!object.is_newer_than_table()) {
        return object;
    }
    const std::string name = object.name();
    return NovaObject::parse(table_,
                             TRY(call(context, "object_backport_versions",
                                      Json::object({{"objinst", std::move(primitive)},
                                                    {"object_versions", table_.manifest(name)}}))));
}

}  // namespace kumoi::nova
