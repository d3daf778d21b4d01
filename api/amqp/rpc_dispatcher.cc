#include "api/amqp/rpc_dispatcher.h"

#include <charconv>
#include <optional>

namespace kumoi::amqp {
namespace {

constexpr std::string_view kPing = "oslo_rpc_server_ping";

struct Version {
    int64_t major = 0;
    int64_t minor = 0;
};

std::optional<Version> parse_version(const std::string& text) {
    const size_t dot = text.find('.');
    const char* end = text.data() + text.size();
    Version version;
    const char* major_end = dot == std::string::npos ? end : text.data() + dot;
    if (std::from_chars(text.data(), major_end, version.major).ptr != major_end || text.empty()) {
        return std::nullopt;
    }
    if (dot != std::string::npos && std::from_chars(major_end + 1, end, version.minor).ptr != end) {
        return std::nullopt;
    }
    return version;
}

}  // namespace

bool version_serves(const std::string& offered, const std::string& wanted) {
    const auto have = parse_version(offered);
    const auto want = parse_version(wanted);
    return have && want && have->major == want->major && want->minor <= have->minor;
}

void RpcDispatcher::add(RpcEndpoint endpoint) {
    endpoints_.push_back(std::move(endpoint));
}

void RpcDispatcher::add_ping() {
    answers_ping_ = true;
}

void RpcDispatcher::add_base_api(const std::string& service) {
    add({.namespace_ = "baseapi",
         .version = "1.1",
         .methods = {"ping", "get_backdoor_port"},
         .handler = [service](const RpcRequest& request) -> Result<Json> {
             if (request.method == "get_backdoor_port") {
                 return Json();  // there is no such door here
             }
             const Json* argument = request.args.find("arg");
             return Json::object(
                 {{"service", service}, {"arg", argument == nullptr ? Json() : *argument}});
         }});
}

Result<Json> RpcDispatcher::operator()(const RpcRequest& request) const {
    if (answers_ping_ && request.namespace_.empty() && request.method == kPing) {
        return Json("pong");
    }
    bool compatible = false;
    for (const RpcEndpoint& endpoint : endpoints_) {
        if (endpoint.namespace_ != request.namespace_ ||
            !version_serves(endpoint.version, request.version)) {
            continue;
        }
        compatible = true;
        if (!request.method.starts_with('_') && endpoint.methods.contains(request.method)) {
            return endpoint.handler(request);
        }
    }
    if (compatible) {
        return Error::unsupported("Endpoint does not support RPC method {}", request.method)
            .with_fault("NoSuchMethod");
    }
    return Error::unsupported("Endpoint does not support RPC version {}. Attempted method: {}",
                              request.version, request.method)
        .with_fault("UnsupportedVersion");
}

}  // namespace kumoi::amqp
