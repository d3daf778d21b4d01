#include "hypervisor/control/protocol.h"

#include <algorithm>
#include <utility>

namespace kumoi::hypervisor {

namespace {

constexpr std::pair<ErrorCode, std::string_view> kCodes[] = {
    {ErrorCode::InvalidArgument, "invalid_argument"},
    {ErrorCode::Unauthenticated, "unauthenticated"},
    {ErrorCode::Forbidden, "forbidden"},
    {ErrorCode::NotFound, "not_found"},
    {ErrorCode::Conflict, "conflict"},
    {ErrorCode::TooLarge, "too_large"},
    {ErrorCode::Exhausted, "exhausted"},
    {ErrorCode::Unavailable, "unavailable"},
    {ErrorCode::Timeout, "timeout"},
    {ErrorCode::Unsupported, "unsupported"},
    {ErrorCode::Cancelled, "cancelled"},
    {ErrorCode::Corrupt, "corrupt"},
    {ErrorCode::Io, "io"},
    {ErrorCode::Internal, "internal"},
};

std::string line_of(const Json& json) {
    std::string line;
    json.append_to(line);
    line += '\n';
    return line;
}

Result<std::vector<std::string>> descriptor_names(const JsonView& view) {
    constexpr size_t kNameMax = 4096;
    std::vector<std::string> names;
    for (const JsonView& item : TRY(view.array("fds"))) {
        std::string name = TRY(item.as_string());
        if (name.empty() || name.size() > kNameMax || name.find('\0') != std::string::npos) {
            return item.error("expected a name of 1 to 4096 bytes");
        }
        if (names.size() == kControlFdsMax) {
            return TRY(view.at("fds"))
                .error(fmt::format("at most {} descriptors come with a request", kControlFdsMax));
        }
        names.push_back(std::move(name));
    }
    return names;
}

}  // namespace

std::string_view control_error_code(ErrorCode code) {
    const auto* found =
        std::ranges::find(kCodes, code, &std::pair<ErrorCode, std::string_view>::first);
    return found == std::end(kCodes) ? "internal" : found->second;
}

ErrorCode control_error_code(std::string_view name) {
    const auto* found =
        std::ranges::find(kCodes, name, &std::pair<ErrorCode, std::string_view>::second);
    return found == std::end(kCodes) ? ErrorCode::Internal : found->first;
}

Json control_error_json(const Error& error) {
    return Json::object({{"code", control_error_code(error.code)},
                         {"message", error.message},
                         {"hint", error.hint}});
}

Error control_error(const Json& error) {
    return {control_error_code(error.string_or("code", "internal")),
            error.string_or("message", "the machine answered with an error it did not describe"),
            error.string_or("hint"),
            {}};
}

Result<ControlRequest> parse_control_request(std::string_view line) {
    constexpr size_t kDepthMax = 16;
    const Json json = TRY(Json::parse(line, {kControlLineMax, kDepthMax}));
    const JsonView view(json);
    if (!json.is_object()) {
        return view.wrong_type("an object");
    }
    TRY(view.only({"id", "method", "params", "fds"}));
    ControlRequest request;
    if (const Json* id = json.find("id")) {
        if (!id->is_integer() && !id->is_string() && !id->is_null()) {
            return JsonView(*id, "id").wrong_type("an integer or a string");
        }
        request.id = *id;
    }
    request.method = TRY(view.string("method"));
    if (view.has("params")) {
        request.params = TRY(view.object("params")).json();
    }
    if (view.has("fds")) {
        request.fds = TRY(descriptor_names(view));
    }
    return request;
}

std::string control_result_line(const Json& id, const Json& result) {
    return line_of(Json::object({{"id", id}, {"result", result}}));
}

std::string control_error_line(const Json& id, const Error& error) {
    return line_of(Json::object({{"id", id}, {"error", control_error_json(error)}}));
}

std::string control_event_line(const ControlEvent& event) {
    return line_of(Json::object({{"event", event.name}, {"data", event.data}}));
}

std::string control_request_line(int64_t id, std::string_view method, const Json& params,
                                 const std::vector<std::string>& fds) {
    Json request = Json::object({{"id", id}, {"method", method}, {"params", params}});
    if (!fds.empty()) {
        Json names = Json::array();
        for (const std::string& name : fds) {
            names.push_back(name);
        }
        request.set("fds", std::move(names));
    }
    return line_of(request);
}

Result<void> LineBuffer::append(std::string_view bytes) {
    buffer_ += bytes;
    const size_t end = buffer_.find('\n', scanned_);
    const size_t unfinished = end == std::string::npos ? buffer_.size() : end;
    if (unfinished > line_max_) {
        return Error::too_large("a line of more than {} bytes", line_max_);
    }
    return {};
}

std::optional<std::string> LineBuffer::next_line() {
    const size_t end = buffer_.find('\n', scanned_);
    if (end == std::string::npos) {
        scanned_ = buffer_.size();
        return std::nullopt;
    }
    std::string line = buffer_.substr(0, end);
    buffer_.erase(0, end + 1);
    scanned_ = 0;
    if (!line.empty() && line.back() == '\r') {
        line.pop_back();
    }
    return line;
}

}  // namespace kumoi::hypervisor
