// RpcFailure: a Python exception on the wire. The class name is what the other side acts on, so an
// Error of ours travels as the Nova exception that its `fault` names, and a failure that arrives
// becomes an Error whose `fault` is the class name. Pure functions.
//
// Only classes of nova.exception and Python's builtins are rebuilt by a Nova caller; anything else
// would reach it as RemoteError, and its user as HTTP 500.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace kumoi::amqp {

struct RpcFailure {
    std::string class_name = "NovaException";
    std::string module = "nova.exception";
    std::string message;
    std::vector<std::string> traceback;  // lines, each with its newline
    Json args = Json::array();
    Json kwargs = Json::object();

    std::string encode() const;
    // Text that is no failure at all makes a RemoteError of it: a broken peer must not look well.
    static RpcFailure decode(std::string_view text);
};

Error error_from(const RpcFailure& failure);
RpcFailure failure_from(const Error& error);

}  // namespace kumoi::amqp
