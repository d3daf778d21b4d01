#include "base/result.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>

namespace kumoi {

void assertion_failed(const char* condition, const char* file, int line) {
    std::fprintf(stderr, "kumoi: broken promise: %s (%s:%d)\n", condition, file, line);
    std::abort();
}

std::string_view to_string(ErrorCode code) {
    switch (code) {
        case ErrorCode::InvalidArgument: return "invalid_argument";
        case ErrorCode::Unauthenticated: return "unauthenticated";
        case ErrorCode::Forbidden: return "forbidden";
        case ErrorCode::NotFound: return "not_found";
        case ErrorCode::Conflict: return "conflict";
        case ErrorCode::TooLarge: return "too_large";
        case ErrorCode::Exhausted: return "exhausted";
        case ErrorCode::Unavailable: return "unavailable";
        case ErrorCode::Timeout: return "timeout";
        case ErrorCode::Unsupported: return "unsupported";
        case ErrorCode::Cancelled: return "cancelled";
        case ErrorCode::Corrupt: return "corrupt";
        case ErrorCode::Io: return "io";
        case ErrorCode::Internal: return "internal";
    }
    return "internal";
}

Error Error::from_errno(int errno_value, std::string what) {
    ErrorCode code = ErrorCode::Io;
    switch (errno_value) {
        case ENOENT: code = ErrorCode::NotFound; break;
        case ENOSPC:
        case EDQUOT:
        case ENOMEM:
        case EMFILE:
        case ENFILE: code = ErrorCode::Exhausted; break;
        case EEXIST:
        case EBUSY: code = ErrorCode::Conflict; break;
        case EPERM:
        case EACCES: code = ErrorCode::Forbidden; break;
        case ETIMEDOUT: code = ErrorCode::Timeout; break;
        case ECONNREFUSED:
        case ECONNRESET:
        case EPIPE: code = ErrorCode::Unavailable; break;
        default: break;
    }
    return {code, std::move(what) + ": " + std::generic_category().message(errno_value), {}, {}};
}

Error Error::with_context(std::string_view context) && {
    message.insert(0, std::string(context) + ": ");
    return std::move(*this);
}

std::string Error::text() const {
    if (hint.empty()) {
        return message;
    }
    const bool ends_sentence = !message.empty() && message.back() == '.';
    return message + (ends_sentence ? " " : ". ") + hint;
}

}  // namespace kumoi
