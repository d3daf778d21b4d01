#include "api/cli/server_waiting.h"

#include <poll.h>

#include <algorithm>

#include "api/cli/find.h"

namespace kumoi::cli {
namespace {

constexpr int kPollFirstMs = 100;
constexpr int kPollMaxMs = 1000;

void pause_ms(int milliseconds) {
    poll(nullptr, 0, milliseconds);
}

std::string lower(std::string text) {
    for (char& character : text) {
        character =
            character >= 'A' && character <= 'Z' ? static_cast<char>(character + 32) : character;
    }
    return text;
}

}  // namespace

std::string phase_of(const Json& server) {
    const std::string status = server.string_or("status", "UNKNOWN");
    const std::string task = server.string_or("OS-EXT-STS:task_state");
    if (status == "BUILD") {
        return task.empty() || task == "scheduling" ? "scheduling" : "building (" + task + ")";
    }
    return task.empty() ? lower(status) : task;
}

std::string first_address(const Json& server) {
    const Json* networks = server.find("addresses");
    if (networks == nullptr || !networks->is_object()) {
        return "";
    }
    for (const auto& network : networks->as_object()) {
        if (network.second.is_array() && network.second.size() > 0) {
            return network.second.as_array().front().string_or("addr");
        }
    }
    return "";
}

Error fault_of(const Json& server) {
    const Json* fault = server.find("fault");
    const std::string message = fault == nullptr ? "" : fault->string_or("message");
    const std::string details = fault == nullptr ? "" : fault->string_or("details");
    Error error = Error::internal("Server {} is in state ERROR{}{}", server.string_or("name"),
                                  message.empty() ? "." : ": ", message);
    const bool no_host = message.find("No valid host") != std::string::npos;
    if (no_host) {
        error.code = ErrorCode::Exhausted;
        error.fault = "NoValidHost";
    }
    // A traceback is for the log; the scheduler's reasons are for the user.
    if (!details.empty() && details.find("Traceback") == std::string::npos && details != message) {
        error.hint = details;
    }
    return error;
}

Result<Json> find_server(Session& session, const std::string& wanted) {
    return find_one(
        "server", TRY(TRY(session.cloud())->list("compute", "/servers/detail", "servers")), wanted);
}

Result<Json> wait_for_server(Session& session, const std::string& id, const Arrived& arrived) {
    const int64_t deadline =
        session.clock().monotonic_ns() + session.options.wait_seconds * kNanosPerSecond;
    std::string shown;
    for (int wait_ms = kPollFirstMs;; wait_ms = std::min(wait_ms * 5 / 4, kPollMaxMs)) {
        const Json answer = TRY(TRY(session.cloud())->get("compute", "/servers/" + id));
        const Json* server = answer.find("server");
        if (server == nullptr) {
            return Error::corrupt("The Compute API answered without a server.");
        }
        if (TRY(arrived(*server))) {
            return *server;
        }
        const std::string phase = phase_of(*server);
        if (phase != shown) {
            session.out.progress(fmt::format(" {}  {}", server->string_or("name"), phase));
            shown = phase;
        }
        if (session.clock().monotonic_ns() >= deadline) {
            return Error::timeout("Server {} is still {} after {} s.", server->string_or("name"),
                                  phase, session.options.wait_seconds)
                .with_hint("It goes on; look with: kumoi server show " + id);
        }
        pause_ms(wait_ms);
    }
}

Result<void> wait_for_deletion(Session& session, const std::string& id) {
    const auto outcome = wait_for_server(session, id, [](const Json& server) -> Result<bool> {
        if (server.string_or("status") == "ERROR") {
            return fault_of(server);
        }
        return server.string_or("status") == "DELETED";
    });
    const bool gone = !outcome.ok() && outcome.error().code == ErrorCode::NotFound;
    return outcome.ok() || gone ? Result<void>() : Result<void>(outcome.error());
}

}  // namespace kumoi::cli
