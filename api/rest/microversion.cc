#include "api/rest/microversion.h"

#include <charconv>
#include <optional>

#include "api/rest/fault.h"

namespace kumoi::api {
namespace {

constexpr std::string_view kHeader = "OpenStack-API-Version";
constexpr std::string_view kLegacyHeader = "X-OpenStack-Nova-API-Version";
constexpr std::string_view kService = "compute";

Error malformed(std::string_view text) {
    return Error::invalid(
        "API Version String {} is of invalid format. Must be of format MajorNum.MinorNum.", text);
}

// "2.53": no signs, no leading zeros, as Nova's regular expression has it.
std::optional<std::pair<int, int>> parse_version(std::string_view text) {
    const size_t dot = text.find('.');
    if (dot == std::string_view::npos) {
        return std::nullopt;
    }
    const auto number = [](std::string_view part, int& value) {
        const bool leading_zero = part.size() > 1 && part.front() == '0';
        const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
        return !part.empty() && part.front() != '-' && !leading_zero && error == std::errc() &&
               end == part.data() + part.size();
    };
    int major = 0;
    int minor = 0;
    if (!number(text.substr(0, dot), major) || !number(text.substr(dot + 1), minor)) {
        return std::nullopt;
    }
    return std::pair(major, minor);
}

// The version named for our service; the generic header may carry several services, comma
// separated.
std::optional<std::string> version_text(const HeaderMap& headers) {
    for (const std::string& member : headers.list(kHeader)) {
        const std::string_view entry = trim(member);
        const size_t space = entry.find(' ');
        if (space != std::string_view::npos &&
            equal_ignoring_case(entry.substr(0, space), kService)) {
            return std::string(trim(entry.substr(space + 1)));
        }
    }
    return headers.first(kLegacyHeader);
}

}  // namespace

std::string Microversion::text() const {
    return fmt::format("2.{}", minor);
}

Result<Microversion> requested_microversion(const HeaderMap& headers) {
    const auto text = version_text(headers);
    if (!text) {
        return kMicroversionMin;
    }
    if (equal_ignoring_case(*text, "latest")) {
        return kMicroversionMax;
    }
    const auto version = parse_version(*text);
    if (!version) {
        return malformed(*text);
    }
    const Microversion wanted{version->second};
    if (version->first != 2 || wanted < kMicroversionMin || wanted > kMicroversionMax) {
        return Error::invalid(
                   "Version {} is not supported by the API. Minimum is {} and maximum is {}.",
                   *text, kMicroversionMin.text(), kMicroversionMax.text())
            .with_fault("NotAcceptable");
    }
    return wanted;
}

Middleware negotiate_microversion() {
    return [](Request& request, const Handler& next) {
        const auto version = requested_microversion(request.headers);
        Reply reply = version.ok() ? (request.attach(*version), next(request))
                                   : fault_reply(ApiShape::Nova, version.error(), &request);
        const std::string text = version.ok() ? version->text() : kMicroversionMin.text();
        reply.headers.set(kHeader, fmt::format("{} {}", kService, text));
        reply.headers.set(kLegacyHeader, text);
        reply.headers.add("Vary", std::string(kHeader));
        reply.headers.add("Vary", std::string(kLegacyHeader));
        reply.headers.set("x-compute-request-id", request.request_id);
        return reply;
    };
}

Microversion microversion_of(const Request& request) {
    const auto* version = request.attachment<Microversion>();
    return version != nullptr ? *version : kMicroversionMin;
}

}  // namespace kumoi::api
