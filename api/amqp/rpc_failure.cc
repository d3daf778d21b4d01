#include "api/amqp/rpc_failure.h"

#include <algorithm>
#include <array>

#include "api/amqp/envelope.h"
#include "api/amqp/nova_exceptions.h"
#include "base/python_json.h"

namespace kumoi::amqp {
namespace {

constexpr std::string_view kRemoteSuffix = "_Remote";
constexpr size_t kTracebackLinesMax = 1000;
constexpr auto kBuiltins = std::to_array<std::string_view>(
    {"AttributeError", "Exception", "KeyError", "NotImplementedError", "OSError", "RuntimeError",
     "TimeoutError", "TypeError", "ValueError"});
constexpr auto kDispatcher =
    std::to_array<std::string_view>({"NoSuchMethod", "UnsupportedVersion"});

template <size_t N>
bool contains(const std::array<std::string_view, N>& names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

ErrorCode code_of_status(int64_t status) {
    switch (status) {
        case 400:
        case 422: return ErrorCode::InvalidArgument;
        case 401: return ErrorCode::Unauthenticated;
        case 403: return ErrorCode::Forbidden;
        case 404: return ErrorCode::NotFound;
        case 409: return ErrorCode::Conflict;
        case 413: return ErrorCode::TooLarge;
        case 501: return ErrorCode::Unsupported;
        case 503: return ErrorCode::Unavailable;
        default: return ErrorCode::Internal;
    }
}

ErrorCode code_of_class(std::string_view name) {
    if (name == "NotImplementedError" || contains(kDispatcher, name)) {
        return ErrorCode::Unsupported;
    }
    if (name == "ValueError" || name == "TypeError") {
        return ErrorCode::InvalidArgument;
    }
    if (name == "MessagingTimeout" || name == "TimeoutError") {
        return ErrorCode::Timeout;
    }
    return code_of_status(nova_exception_status(name).value_or(500));
}

int64_t status_of(ErrorCode code) {
    switch (code) {
        case ErrorCode::InvalidArgument: return 400;
        case ErrorCode::Unauthenticated: return 401;
        case ErrorCode::Forbidden: return 403;
        case ErrorCode::NotFound: return 404;
        case ErrorCode::Conflict: return 409;
        case ErrorCode::TooLarge: return 413;
        default: return 500;
    }
}

RpcFailure remote_error(std::string_view text) {
    RpcFailure failure;
    failure.class_name = "RemoteError";
    failure.module = "oslo_messaging.rpc.client";
    failure.message =
        fmt::format("the other side sent a failure that cannot be read: {}", text.substr(0, 200));
    return failure;
}

}  // namespace

std::string RpcFailure::encode() const {
    return python_dump(Json::object({{"class", class_name},
                                     {"module", module},
                                     {"message", message},
                                     {"tb", Json::array_of(traceback)},
                                     {"args", args},
                                     {"kwargs", kwargs}}));
}

RpcFailure RpcFailure::decode(std::string_view text) {
    const auto json = Json::parse(text, {.size_max = kMessageBytesMax});
    if (!json.ok() || !json->is_object() || json->string_or("class").empty()) {
        return remote_error(text);
    }
    RpcFailure failure;
    failure.class_name = json->string_or("class");
    if (failure.class_name.ends_with(kRemoteSuffix)) {
        failure.class_name.resize(failure.class_name.size() - kRemoteSuffix.size());
    }
    failure.module = json->string_or("module");
    failure.message = json->string_or("message");
    if (const Json* lines = json->find("tb"); lines != nullptr && lines->is_array()) {
        for (const Json& line : lines->as_array()) {
            if (line.is_string() && failure.traceback.size() < kTracebackLinesMax) {
                failure.traceback.push_back(line.as_string());
            }
        }
    }
    if (const Json* args = json->find("args"); args != nullptr && args->is_array()) {
        failure.args = *args;
    }
    if (const Json* kwargs = json->find("kwargs"); kwargs != nullptr && kwargs->is_object()) {
        failure.kwargs = *kwargs;
    }
    return failure;
}

Error error_from(const RpcFailure& failure) {
    const int64_t status = failure.kwargs.integer_or("code", 0);
    const bool known = nova_exception_status(failure.class_name).has_value();
    const ErrorCode code =
        known && status != 0 ? code_of_status(status) : code_of_class(failure.class_name);
    return {code, failure.message, {}, failure.class_name};
}

RpcFailure failure_from(const Error& error) {
    RpcFailure failure;
    failure.message = error.text();
    failure.args.push_back(failure.message);
    const auto status = nova_exception_status(error.fault);
    if (status) {
        failure.class_name = error.fault;
        failure.kwargs.set("code", *status);
    } else if (contains(kBuiltins, error.fault)) {
        failure.class_name = error.fault;
        failure.module = "builtins";
    } else if (contains(kDispatcher, error.fault)) {
        failure.class_name = error.fault;
        failure.module = "oslo_messaging.rpc.dispatcher";
        failure.args = Json::array();
    } else if (error.code == ErrorCode::Unsupported) {
        failure.class_name = "NotImplementedError";
        failure.module = "builtins";
    } else {
        failure.kwargs.set("code", status_of(error.code));
    }
    failure.traceback.push_back(
        fmt::format("{}.{}: {}\n", failure.module, failure.class_name, failure.message));
    return failure;
}

}  // namespace kumoi::amqp
