// One request to ComputeEndpoint while it is answered; for its own source files alone.
#pragma once

#include <string>
#include <string_view>

#include "api/nova/compute_endpoint.h"

namespace kumoi::nova {

struct ComputeEndpoint::Call {
    const amqp::RpcRequest& request;
    compute::RequestContext context;

    const Json* argument(std::string_view name) const { return request.args.find(name); }
    std::string text(std::string_view name) const { return request.args.string_or(name); }
    bool boolean(std::string_view name, bool other) const {
        return request.args.bool_or(name, other);
    }
};

}  // namespace kumoi::nova
