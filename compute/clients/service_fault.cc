#include "compute/clients/service_fault.h"

#include <algorithm>

namespace kumoi::clients {
namespace {

constexpr size_t kMessageMax = 1000;

std::string one_line(std::string text) {
    std::replace_if(
        text.begin(), text.end(), [](unsigned char letter) { return letter < ' '; }, ' ');
    if (text.size() > kMessageMax) {
        text.resize(kMessageMax);
        while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xc0) == 0x80) {
            text.pop_back();
        }
        text += "...";
    }
    return text;
}

// Placement: {"errors": [{"status", "title", "detail", "code"}]}
bool take_placement(const Json& body, ServiceFault& fault) {
    const Json* errors = body.find("errors");
    if (errors == nullptr || !errors->is_array() || errors->size() == 0) {
        return false;
    }
    const Json& first = errors->as_array().front();
    fault.type = first.string_or("title");
    fault.code = first.string_or("code");
    fault.message = first.string_or("detail", fault.type);
    return true;
}

// {"<name>": {"message", "type" | "title", "code"}} of Neutron, Keystone, Cinder and Nova.
bool take_wrapped(const Json& body, ServiceFault& fault) {
    if (!body.is_object() || body.size() != 1) {
        return false;
    }
    const auto& [name, inner] = body.as_object().front();
    if (inner.is_string()) {
        fault.message = inner.as_string();
        return true;
    }
    const std::string message = inner.string_or("message");
    if (!inner.is_object() || message.empty()) {
        return false;
    }
    fault.type = inner.string_or("type", inner.string_or("title", name));
    fault.message = message;
    return true;
}

// Glance and web servers in front answer HTML: the text without its tags.
std::string strip_tags(std::string_view html) {
    std::string text;
    bool inside = false;
    for (const char letter : html.substr(0, 4096)) {
        if (letter == '<') {
            inside = true;
        } else if (letter == '>') {
            inside = false;
        } else if (!inside && !((letter == ' ' || letter == '\n' || letter == '\r') &&
                                (text.empty() || text.back() == ' '))) {
            text += letter == '\n' || letter == '\r' ? ' ' : letter;
        }
    }
    return text;
}

}  // namespace

ServiceFault parse_fault(const HttpReply& reply) {
    ServiceFault fault{.status = reply.status};
    if (const auto body = Json::parse(reply.body, {.size_max = 1u << 20}); body.ok()) {
        const Json& json = body.value();
        if (!take_placement(json, fault) && !take_wrapped(json, fault)) {
            fault.message = json.string_or("message", json.string_or("detail"));
        }
    } else {
        fault.message = strip_tags(reply.body);
    }
    fault.message = one_line(std::move(fault.message));
    fault.type = one_line(std::move(fault.type));
    return fault;
}

ErrorCode error_code_of_status(int status) {
    switch (status) {
        case 400:
        case 405:
        case 406:
        case 415:
        case 422: return ErrorCode::InvalidArgument;
        case 401: return ErrorCode::Unauthenticated;
        case 403: return ErrorCode::Forbidden;
        case 404:
        case 410: return ErrorCode::NotFound;
        case 409:
        case 412: return ErrorCode::Conflict;
        case 413: return ErrorCode::TooLarge;
        case 501: return ErrorCode::Unsupported;
        default: return ErrorCode::Unavailable;
    }
}

Error refusal(std::string_view service, std::string_view what, const HttpReply& reply,
              std::string fault_class) {
    const ServiceFault fault = parse_fault(reply);
    std::string text = fmt::format("{} refused to {}", service, what);
    if (!fault.message.empty()) {
        text += ": " + fault.message;
    }
    text += fault.type.empty() ? fmt::format(" ({})", reply.status)
                               : fmt::format(" ({} {})", reply.status, fault.type);
    Error error{error_code_of_status(reply.status), std::move(text), {}, std::move(fault_class)};
    if (const auto id = reply.headers.first("x-openstack-request-id")) {
        error.hint = fmt::format("look for {} in the log of {}", one_line(*id), service);
    }
    return error;
}

}  // namespace kumoi::clients
