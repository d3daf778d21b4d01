// ObjectClient: the remotable methods of versioned objects, run in nova-conductor (conductor RPC
// 3.0: object_class_action_versions, object_action, object_backport_versions). nova-compute has no
// database: all it records and looks up goes through here. Thread safe; blocks for a round trip.
#pragma once

#include <initializer_list>
#include <string_view>

#include "api/amqp/rpc_client.h"
#include "api/nova/nova_object.h"

namespace kumoi::nova {

// Positional arguments of a remotable method that are all text.
Json::Array text_arguments(std::initializer_list<std::string_view> values);

class ObjectClient {
public:
    ObjectClient(amqp::RpcClient& rpc, const ObjectTable& table) : rpc_(rpc), table_(table) {}

    const ObjectTable& table() const { return table_; }
    amqp::RpcClient& rpc() { return rpc_; }

    // A class method. The result as it came: a primitive, a list, a number, null.
    Result<Json> class_action(const Json& context, std::string_view object, std::string_view method,
                              Json::Array args, Json kwargs = Json::object());
    // The same when the result is an object; NotFound when conductor answers null.
    Result<NovaObject> class_object(const Json& context, std::string_view object,
                                    std::string_view method, Json::Array args,
                                    Json kwargs = Json::object());
    // The same for list objects (InstanceList): their members.
    Result<std::vector<NovaObject>> class_objects(const Json& context, std::string_view list,
                                                  std::string_view method, Json::Array args,
                                                  Json kwargs = Json::object());
    // A method of this object: what conductor changed is applied to it. Returns its result.
    Result<Json> action(const Json& context, NovaObject& object, std::string_view method,
                        Json::Array args = {}, Json kwargs = Json::object());
    // An object from the wire; one of a newer minor version is translated by conductor first.
    Result<NovaObject> receive(const Json& context, Json primitive);

private:
    Result<Json> call(const Json& context, const std::string& method, Json args);
    amqp::RpcClient& rpc_;
    const ObjectTable& table_;
};

}  // namespace kumoi::nova
