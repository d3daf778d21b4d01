// The control protocol of a kumoi-vmm: one JSON object a line over a unix stream socket
// (docs/reference/vmm-control.md).
//
//     -> {"id": 7, "method": "pause", "params": {}}
//     <- {"id": 7, "result": {}}            or  {"id": 7, "error": {"code", "message", "hint"}}
//     <- {"event": "paused", "data": {}}    after "subscribe"
//     -> {"method": "add_disk", "params": {}, "fds": ["/srv/disk.raw"]}
//
// "fds" names the descriptors that come along (SCM_RIGHTS), in their order.
//
// LineBuffer cuts a byte stream into lines of bounded length. Values and pure functions; depends on
// base/ only, so the daemon uses it without the rest of the hypervisor.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::hypervisor {

constexpr size_t kControlLineMax = 1u << 20;  // bytes of one request or answer
constexpr int64_t kControlProtocolVersion = 1;
constexpr size_t kControlFdsMax = 64;  // descriptors with one request

struct ControlRequest {
    Json id;  // integer or string, echoed; null when absent
    std::string method;
    Json params = Json::object();
    std::vector<std::string> fds;  // their names; docs/reference/vmm-control.md
};

struct ControlEvent {
    std::string name;
    Json data;
};

Result<ControlRequest> parse_control_request(std::string_view line);
// Each with its line feed.
std::string control_result_line(const Json& id, const Json& result);
std::string control_error_line(const Json& id, const Error& error);
std::string control_event_line(const ControlEvent& event);
std::string control_request_line(int64_t id, std::string_view method, const Json& params,
                                 const std::vector<std::string>& fds = {});

std::string_view control_error_code(ErrorCode code);  // "invalid_argument"
ErrorCode control_error_code(std::string_view name);  // unknown names: Internal
// The "error" member of an answer, and the error it is of.
Json control_error_json(const Error& error);
Error control_error(const Json& error);

class LineBuffer {
public:
    explicit LineBuffer(size_t line_max = kControlLineMax) : line_max_(line_max) {}
    // TooLarge when a line grows past the limit; the buffer is useless afterwards.
    Result<void> append(std::string_view bytes);
    std::optional<std::string> next_line();  // without its line feed (and carriage return)

private:
    size_t line_max_;
    std::string buffer_;
    size_t scanned_ = 0;  // no line feed before this
};

}  // namespace kumoi::hypervisor
