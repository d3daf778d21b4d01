#include "api/amqp/envelope.h"

#include <charconv>

#include "base/python_json.h"

namespace kumoi::amqp {
namespace {

constexpr std::string_view kVersionKey = "oslo.version";
constexpr std::string_view kMessageKey = "oslo.message";
constexpr int kVersionMajor = 2;
constexpr int kVersionMinor = 0;

Result<void> check_version(const Json& version) {
    int major = -1;
    int minor = -1;
    if (version.is_string()) {
        const std::string& text = version.as_string();
        const size_t dot = text.find('.');
        if (dot != std::string::npos) {
            std::from_chars(text.data(), text.data() + dot, major);
            std::from_chars(text.data() + dot + 1, text.data() + text.size(), minor);
        }
    }
    if (major != kVersionMajor || minor < 0 || minor > kVersionMinor) {
        return Error::unsupported("message envelope of version {}; {}.{} is spoken here",
                                  version.dump(), kVersionMajor, kVersionMinor);
    }
    return {};
}

}  // namespace

std::string seal(const Json& message) {
    const std::string text = python_dump(message);
    std::string out;
    out.reserve(text.size() + text.size() / 8 + 64);
    out += R"({"oslo.version": "2.0", "oslo.message": )";
    python_dump_string(out, text);
    out.push_back('}');
    return out;
}

Result<Json> open(std::string_view body) {
    const JsonLimits limits{.size_max = kMessageBytesMax};
    Json outer = TRY_CONTEXT(Json::parse(body, limits), "message body");
    const Json* version = outer.find(kVersionKey);
    const Json* text = outer.find(kMessageKey);
    if (version == nullptr || text == nullptr) {
        if (!outer.is_object()) {
            return Error::invalid("message body: a JSON {} is no message", outer.type_name());
        }
        return outer;
    }
    TRY(check_version(*version));
    if (!text->is_string()) {
        return Error::invalid("oslo.message is a JSON {}; it must be JSON text", text->type_name());
    }
    Json message = TRY_CONTEXT(Json::parse(text->as_string(), limits), "oslo.message");
    if (!message.is_object()) {
        return Error::invalid("oslo.message holds a JSON {} instead of an object",
                              message.type_name());
    }
    return message;
}

}  // namespace kumoi::amqp
