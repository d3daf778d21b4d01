#include "api/http/request.h"

#include "base/assert.h"

namespace kumoi::api {

const std::string& Request::parameter(std::string_view name) const {
    for (const auto& [parameter_name, value] : parameters) {
        if (parameter_name == name) {
            return value;
        }
    }
    KUMOI_ASSERT(!"the route's pattern has this parameter");
    __builtin_unreachable();
}

std::string Request::content_type() const {
    const std::string* value = headers.find("Content-Type");
    if (value == nullptr) {
        return {};
    }
    const std::string_view text = *value;
    return lower_case(trim(text.substr(0, text.find(';'))));
}

Result<Json> Request::json() const {
    if (body.empty()) {
        return Error::invalid("The request has no body, a JSON document is expected");
    }
    return Json::parse(body);
}

std::string Request::base_url() const {
    const std::string* host = headers.find("Host");
    return "http://" + (host != nullptr && !host->empty() ? *host : local_address);
}

}  // namespace kumoi::api
