// Structured log lines: one line an event, `time level component message key=value ...`, or one
// JSON object a line with format "json". Request and server ids come from the innermost LogScope of
// the calling thread, so code deep below a request need not carry them. Thread safe after
// log_init().
//
//     LogScope scope({{"request", request_id}, {"server", uuid}});
//     log_info("compute", "spawned", {{"seconds", 1.2}});
//
// error: a user's action failed; warn: odd but survived; info: rare state changes; debug: the rest.
// Never in a per-I/O path: count with a metric instead. Values are escaped: a log line stays one
// line.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/result.h"

namespace kumoi {

enum class LogLevel { Debug, Info, Warn, Error };

struct LogOptions {
    LogLevel level = LogLevel::Info;
    std::string file;  // empty: standard error
    bool json = false;
};

Result<void> log_init(const LogOptions& options);
void log_flush();
bool log_enabled(LogLevel level);

struct LogField {
    template <class T>
    LogField(std::string_view name, const T& field_value)
        : key(name), value(fmt::format("{}", field_value)) {}
    std::string key;
    std::string value;
};

void log_line(LogLevel level, std::string_view component, std::string_view message,
              std::initializer_list<LogField> fields = {});

inline void log_debug(std::string_view component, std::string_view message,
                      std::initializer_list<LogField> fields = {}) {
    if (log_enabled(LogLevel::Debug)) {
        log_line(LogLevel::Debug, component, message, fields);
    }
}
inline void log_info(std::string_view component, std::string_view message,
                     std::initializer_list<LogField> fields = {}) {
    log_line(LogLevel::Info, component, message, fields);
}
inline void log_warn(std::string_view component, std::string_view message,
                     std::initializer_list<LogField> fields = {}) {
    log_line(LogLevel::Warn, component, message, fields);
}
inline void log_error(std::string_view component, std::string_view message,
                      std::initializer_list<LogField> fields = {}) {
    log_line(LogLevel::Error, component, message, fields);
}

// Adds fields to every line of this thread until destroyed. Scopes nest; inner keys come last.
class LogScope {
public:
    explicit LogScope(std::initializer_list<LogField> fields);
    ~LogScope();
    LogScope(const LogScope&) = delete;
    LogScope& operator=(const LogScope&) = delete;

private:
    size_t count_;
};

// For handing the ids to another thread: capture there, adopt here.
std::vector<LogField> log_scope_fields();
class LogAdopt {
public:
    explicit LogAdopt(std::vector<LogField> fields);
    ~LogAdopt();
    LogAdopt(const LogAdopt&) = delete;
    LogAdopt& operator=(const LogAdopt&) = delete;

private:
    std::vector<LogField> saved_;
};

}  // namespace kumoi
