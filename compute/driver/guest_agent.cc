#include "compute/driver/guest_agent.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/encoding.h"
#include "base/unix_socket.h"

namespace kumoi::compute {
namespace {

constexpr char kSentinel = '\xff';  // begins an answer to guest-sync-delimited, and no JSON
constexpr size_t kWordsMax = 200;   // of the guest's in an error

// Deadlines guard against a guest that is silent, so they follow the real clock even in tests.
int64_t now_ns() {
    return SystemClock().monotonic_ns();
}

Error silent() {
    return Error::timeout("The guest's agent does not answer")
        .with_hint("Is qemu-guest-agent installed in the guest, and does it run?");
}

Result<UniqueFd> connect_to(const std::string& path) {
    auto fd = connect_unix(path, SOCK_NONBLOCK);
    if (!fd.ok() &&
        (fd.error().code == ErrorCode::Unavailable || fd.error().code == ErrorCode::NotFound)) {
        return Error::unavailable("The guest's agent channel is not served: {}",
                                  fd.error().message);
    }
    return fd;
}

Error went_away() {
    return Error::unavailable("The guest went away while its agent was asked");
}

// What a guest said, fit to be shown and logged.
std::string words(std::string text) {
    text = text.substr(0, kWordsMax);
    for (char& one : text) {
        const auto code = static_cast<unsigned char>(one);
        if (code < 0x20 || code >= 0x7f) {
            one = '?';
        }
    }
    return text;
}

Error refusal(std::string_view command, const Json& error) {
    const std::string kind = error.is_object() ? words(error.string_or("class")) : "";
    const std::string text = error.is_object() ? words(error.string_or("desc")) : "";
    if (kind == "CommandNotFound" || kind == "CommandDisabled") {
        return Error::unsupported("The guest's agent does not offer {}: {}", command, text);
    }
    return Error::unavailable("The guest's agent refused {}: {}", command, text);
}

Result<Json> parse_answer(std::string_view command, const std::string& text) {
    auto answer = Json::parse(text, {.size_max = GuestAgent::kAnswerMax, .depth_max = 16});
    if (!answer.ok() || !answer->is_object()) {
        return Error::unavailable("The guest's agent answered {} with something else than JSON",
                                  command);
    }
    return answer;
}

Result<int64_t> count_of(std::string_view command, const Json& value) {
    const auto count = value.to_int64();
    if (!count || *count < 0) {
        return Error::unavailable("The guest's agent answered {} with no number", command);
    }
    return *count;
}

}  // namespace

Result<GuestAgent> GuestAgent::connect(const std::string& path, const GuestAgentOptions& options,
                                       Random& random) {
    GuestAgent agent(TRY(connect_to(path)), options);
    TRY(agent.sync(random));
    return agent;
}

// The sentinel ends whatever the agent has half read; its own ends whatever it has half said to
// somebody before us. An answer with another number is to a question that was given up.
Result<void> GuestAgent::sync(Random& random) {
    const int64_t deadline = now_ns() + options_.sync_timeout_ms * kNanosPerMilli;
    const auto number = static_cast<int64_t>(random.next() >> 33);
    const Json request = Json::object(
        {{"execute", "guest-sync-delimited"}, {"arguments", Json::object({{"id", number}})}});
    TRY(send(kSentinel + request.dump() + "\n", deadline));
    size_t budget = kStaleMax;
    for (;;) {
        TRY(skip_to_sentinel(budget, deadline));
        const auto text = line(deadline);
        if (!text.ok() && text.error().code != ErrorCode::TooLarge) {
            return text.error();
        }
        if (!text.ok()) {
            continue;
        }
        const auto answer = parse_answer("guest-sync-delimited", *text);
        const Json* value = answer.ok() ? answer->find("return") : nullptr;
        if (value != nullptr && value->to_int64() == number) {
            return {};
        }
    }
}

Result<void> GuestAgent::skip_to_sentinel(size_t& budget, int64_t deadline_ns) {
    for (;;) {
        const size_t found = buffer_.find(kSentinel);
        const size_t passed = found == std::string::npos ? buffer_.size() : found + 1;
        if (passed > budget) {
            return Error::too_large("The guest's agent says too much: {} bytes and no answer",
                                    kStaleMax);
        }
        budget -= passed;
        buffer_.erase(0, passed);
        if (found != std::string::npos) {
            return {};
        }
        TRY(fill(deadline_ns));
    }
}

Result<std::string> GuestAgent::line(int64_t deadline_ns) {
    for (;;) {
        const size_t end = buffer_.find('\n');
        if (end != std::string::npos && end <= kAnswerMax) {
            std::string text = buffer_.substr(0, end);
            buffer_.erase(0, end + 1);
            return text;
        }
        if (buffer_.size() > kAnswerMax) {
            return Error::too_large("An answer of the guest's agent has more than {} bytes",
                                    kAnswerMax);
        }
        TRY(fill(deadline_ns));
    }
}

Result<void> GuestAgent::fill(int64_t deadline_ns) {
    if (!TRY(wait_ready(fd_.get(), POLLIN, deadline_ns))) {
        return silent();
    }
    std::array<char, 16u << 10> bytes;
    const ssize_t count = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
    if (count > 0) {
        buffer_.append(bytes.data(), static_cast<size_t>(count));
        return {};
    }
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        return {};
    }
    return went_away();
}

Result<void> GuestAgent::send(std::string_view bytes, int64_t deadline_ns) {
    const auto sent = send_all(fd_.get(), bytes, deadline_ns);
    if (!sent.ok()) {
        return went_away();
    }
    return *sent ? Result<void>() : silent();
}

Result<Json> GuestAgent::call(std::string_view command, Json arguments) {
    const int64_t deadline = now_ns() + options_.command_timeout_ms * kNanosPerMilli;
    Json request = Json::object({{"execute", std::string(command)}});
    if (arguments.size() > 0) {
        request.set("arguments", std::move(arguments));
    }
    TRY(send(request.dump() + "\n", deadline));
    const Json answer = TRY(parse_answer(command, TRY(line(deadline))));
    if (const Json* value = answer.find("return")) {
        return *value;
    }
    const Json* error = answer.find("error");
    return refusal(command, error == nullptr ? Json() : *error);
}

Result<void> GuestAgent::ping() {
    TRY(call("guest-ping"));
    return {};
}

Result<void> GuestAgent::set_user_password(const std::string& user, const std::string& password) {
    TRY(call("guest-set-user-password",
             Json::object(
                 {{"crypted", false}, {"username", user}, {"password", base64_encode(password)}})));
    return {};
}

Result<int64_t> GuestAgent::freeze() {
    return count_of("guest-fsfreeze-freeze", TRY(call("guest-fsfreeze-freeze")));
}

Result<int64_t> GuestAgent::thaw() {
    return count_of("guest-fsfreeze-thaw", TRY(call("guest-fsfreeze-thaw")));
}

Result<bool> GuestAgent::is_frozen() {
    const Json state = TRY(call("guest-fsfreeze-status"));
    if (!state.is_string() || (state.as_string() != "frozen" && state.as_string() != "thawed")) {
        return Error::unavailable("The guest's agent does not say whether it is frozen");
    }
    return state.as_string() == "frozen";
}

}  // namespace kumoi::compute
