#include "compute/driver/guest_agent.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/encoding.h"

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

Result<void> wait_for(int fd, short events, int64_t deadline_ns) {
    for (;;) {
        const int64_t left_ns = deadline_ns - now_ns();
        if (left_ns <= 0) {
            return silent();
        }
        pollfd one{fd, events, 0};
        const auto left_ms =
            static_cast<int>(std::min<int64_t>(left_ns / kNanosPerMilli + 1, 60'000));
        const int ready = ::poll(&one, 1, left_ms);
        if (ready > 0) {
            return {};
        }
        if (ready < 0 && errno != EINTR) {
            return Error::from_errno(errno, "waiting for the guest's agent");
        }
    }
}

Result<UniqueFd> connect_to(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        return Error::invalid("{} is too long for a socket: {} bytes, {} are possible", path,
                              path.size(), sizeof address.sun_path - 1);
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.is_open()) {
        return Error::from_errno(errno, "making a socket");
    }
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        if (errno == ECONNREFUSED || errno == EAGAIN || errno == ENOENT) {
            return Error::unavailable("The guest's agent channel {} is not served: {}", path,
                                      std::strerror(errno));
        }
        return Error::from_errno(errno, "connecting to " + path);
    }
    return fd;
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
    TRY(wait_for(fd_.get(), POLLIN, deadline_ns));
    std::array<char, 16u << 10> bytes;
    const ssize_t count = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
    if (count > 0) {
        buffer_.append(bytes.data(), static_cast<size_t>(count));
        return {};
    }
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        return {};
    }
    return Error::unavailable("The guest went away while its agent was asked");
}

Result<void> GuestAgent::send(std::string_view bytes, int64_t deadline_ns) {
    while (!bytes.empty()) {
        const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent > 0) {
            bytes.remove_prefix(static_cast<size_t>(sent));
        } else if (errno == EAGAIN) {
            TRY(wait_for(fd_.get(), POLLOUT, deadline_ns));
        } else if (errno != EINTR) {
            return Error::unavailable("The guest went away while its agent was asked");
        }
    }
    return {};
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
