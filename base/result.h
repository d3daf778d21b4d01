// Result<T>: how every fallible function in kumoi reports failure.
//
// Why not exceptions. A compute node runs thousands of operations whose failure is ordinary: a host
// is full, an image is damaged, a peer hangs up. With exceptions such a failure is invisible in the
// signature, may leave a vCPU thread or a C callback (rabbitmq-c, Pistache) through a frame that
// cannot unwind, and costs microseconds exactly when a node is already in trouble. With a value the
// compiler makes the caller look ([[nodiscard]]), the path is the same speed either way, and the
// error can cross a thread, a socket or a journal like any other value.
//
// Why not std::error_code or plain enums. An operator needs three things: what was refused, why
// (with the numbers), and what to do next. Error carries them as `message` and `hint`; `code` is
// the coarse class a program may branch on, and `fault` the field's own name for it
// ("NoValidHost"), which the API layers turn into HTTP statuses and Nova exceptions, in one place
// each.
//
// Use:
//     Result<UniqueFd> open_disk(const std::string& path) {
//         auto size = TRY(file_size(path));                  // returns the error to our caller
//         if (size == 0) return Error::invalid("disk {} is empty", path);
//         return UniqueFd(...);
//     }
//
// TRY is a GNU statement expression (GCC and Clang). It keeps the cause untouched; where the caller
// knows something the cause does not, add it: `TRY_CONTEXT(expr, "spawning server {}", id)`.
// Values are owned by whoever holds the Result. Nothing here is shared between threads.
#pragma once

#include <fmt/core.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/assert.h"

namespace kumoi {

enum class ErrorCode {
    InvalidArgument,  // the request or the bytes are wrong; repeating them cannot help
    Unauthenticated,  // we do not know who asks
    Forbidden,        // we know, and the answer is no
    NotFound,
    Conflict,     // right request, wrong state or moment
    TooLarge,     // over a documented limit
    Exhausted,    // no room: quota, memory, disk, addresses
    Unavailable,  // a peer, service or device cannot be used now; try again
    Timeout,
    Unsupported,  // understood, and not offered here
    Cancelled,
    Corrupt,   // stored or received data contradicts itself
    Io,        // the operating system refused; message holds errno's text
    Internal,  // our own bug or a broken promise of a library
};

std::string_view to_string(ErrorCode code);

struct Error {
    ErrorCode code = ErrorCode::Internal;
    std::string message;  // full sentence: the object, the numbers
    std::string hint;     // what to do next; may be empty
    std::string fault;    // the field's own name ("NoValidHost"); may be empty

    template <class... Args>
    static Error make(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
        return {code, fmt::format(format, std::forward<Args>(args)...), {}, {}};
    }
#define KUMOI_ERROR_FACTORY(name, enumerator)                                    \
    template <class... Args>                                                     \
    static Error name(fmt::format_string<Args...> format, Args&&... args) {      \
        return make(ErrorCode::enumerator, format, std::forward<Args>(args)...); \
    }
    KUMOI_ERROR_FACTORY(invalid, InvalidArgument)
    KUMOI_ERROR_FACTORY(unauthenticated, Unauthenticated)
    KUMOI_ERROR_FACTORY(forbidden, Forbidden)
    KUMOI_ERROR_FACTORY(not_found, NotFound)
    KUMOI_ERROR_FACTORY(conflict, Conflict)
    KUMOI_ERROR_FACTORY(too_large, TooLarge)
    KUMOI_ERROR_FACTORY(exhausted, Exhausted)
    KUMOI_ERROR_FACTORY(unavailable, Unavailable)
    KUMOI_ERROR_FACTORY(timeout, Timeout)
    KUMOI_ERROR_FACTORY(unsupported, Unsupported)
    KUMOI_ERROR_FACTORY(cancelled, Cancelled)
    KUMOI_ERROR_FACTORY(corrupt, Corrupt)
    KUMOI_ERROR_FACTORY(io, Io)
    KUMOI_ERROR_FACTORY(internal, Internal)
#undef KUMOI_ERROR_FACTORY

    // Message "<what>: <strerror>", code NotFound for ENOENT, Exhausted for ENOSPC/ENOMEM, Conflict
    // for EEXIST/EBUSY, Forbidden for EPERM/EACCES, Io otherwise.
    static Error from_errno(int errno_value, std::string what);

    Error with_hint(std::string text) && {
        hint = std::move(text);
        return std::move(*this);
    }
    Error with_fault(std::string name) && {
        fault = std::move(name);
        return std::move(*this);
    }
    // Puts "context: " before the message.
    Error with_context(std::string_view context) &&;
    // "message. hint" for people.
    std::string text() const;
};

template <class T>
class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    bool ok() const { return state_.index() == 0; }
    explicit operator bool() const { return ok(); }

    T& value() & {
        KUMOI_ASSERT(ok());
        return *std::get_if<0>(&state_);
    }
    const T& value() const& {
        KUMOI_ASSERT(ok());
        return *std::get_if<0>(&state_);
    }
    T value() && {
        KUMOI_ASSERT(ok());
        return std::move(*std::get_if<0>(&state_));
    }
    T value_or(T other) && { return ok() ? std::move(*std::get_if<0>(&state_)) : std::move(other); }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }

    const Error& error() const& {
        KUMOI_ASSERT(!ok());
        return *std::get_if<1>(&state_);
    }
    Error error() && {
        KUMOI_ASSERT(!ok());
        return std::move(*std::get_if<1>(&state_));
    }

private:
    std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Error error) : error_(std::move(error)) {}

    bool ok() const { return !error_.has_value(); }
    explicit operator bool() const { return ok(); }
    void value() const { KUMOI_ASSERT(ok()); }
    const Error& error() const& {
        KUMOI_ASSERT(!ok());
        return *error_;
    }
    Error error() && {
        KUMOI_ASSERT(!ok());
        return std::move(*error_);
    }

private:
    std::optional<Error> error_;
};

}  // namespace kumoi

// The counter gives each use its own variable, so that TRY may stand inside TRY's argument.
// NOLINTBEGIN(bugprone-macro-parentheses): a variable's name takes none
#define KUMOI_TRY_NAME(prefix, counter) prefix##counter
#define KUMOI_TRY(name, expression)         \
    __extension__({                         \
        auto name = (expression);           \
        if (!name.ok()) [[unlikely]] {      \
            return std::move(name).error(); \
        }                                   \
        std::move(name).value();            \
    })
#define KUMOI_TRY_CONTEXT(name, expression, ...)                                   \
    __extension__({                                                                \
        auto name = (expression);                                                  \
        if (!name.ok()) [[unlikely]] {                                             \
            return std::move(name).error().with_context(fmt::format(__VA_ARGS__)); \
        }                                                                          \
        std::move(name).value();                                                   \
    })
// NOLINTEND(bugprone-macro-parentheses)
#define KUMOI_TRY_EXPAND(counter, expression) \
    KUMOI_TRY(KUMOI_TRY_NAME(try_result_, counter), expression)
#define KUMOI_TRY_CONTEXT_EXPAND(counter, expression, ...) \
    KUMOI_TRY_CONTEXT(KUMOI_TRY_NAME(try_result_, counter), expression, __VA_ARGS__)
#define TRY(expression) KUMOI_TRY_EXPAND(__COUNTER__, expression)
#define TRY_CONTEXT(expression, ...) KUMOI_TRY_CONTEXT_EXPAND(__COUNTER__, expression, __VA_ARGS__)
