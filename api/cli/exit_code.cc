#include "api/cli/exit_code.h"

namespace kumoi::cli {

int exit_code(const Error& error) {
    switch (error.code) {
        case ErrorCode::InvalidArgument: return kUsage;
        case ErrorCode::NotFound: return kNotFound;
        case ErrorCode::Conflict: return kConflict;
        case ErrorCode::Unauthenticated:
        case ErrorCode::Forbidden:
        case ErrorCode::TooLarge:
        case ErrorCode::Exhausted: return kRefused;
        case ErrorCode::Timeout: return kTimeout;
        case ErrorCode::Unavailable: return kUnreachable;
        case ErrorCode::Unsupported:
        case ErrorCode::Cancelled:
        case ErrorCode::Corrupt:
        case ErrorCode::Io:
        case ErrorCode::Internal: return kFailed;
    }
    return kFailed;
}

}  // namespace kumoi::cli
