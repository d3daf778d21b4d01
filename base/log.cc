#include "base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>

#include "base/clock.h"
#include "base/json.h"

namespace kumoi {
namespace {

std::atomic<LogLevel> g_level{LogLevel::Info};
std::atomic<bool> g_json{false};
thread_local std::vector<LogField> t_scope;

std::shared_ptr<spdlog::logger>& logger() {
    static auto instance = [] {
        auto made = std::make_shared<spdlog::logger>(
            "kumoi", std::make_shared<spdlog::sinks::stderr_sink_mt>());
        made->set_pattern("%v");
        made->set_level(spdlog::level::trace);
        made->flush_on(spdlog::level::trace);
        return made;
    }();
    return instance;
}

std::string_view level_name(LogLevel level) {
    switch (level) {
        case LogLevel::Debug: return "debug";
        case LogLevel::Info: return "info";
        case LogLevel::Warn: return "warn";
        case LogLevel::Error: return "error";
    }
    return "error";
}

// Quotes a value when it holds anything that would blur the line; control bytes never get through.
std::string text_value(const std::string& value) {
    bool plain = !value.empty();
    for (const char character : value) {
        const auto byte = static_cast<unsigned char>(character);
        plain = plain && byte > 0x20 && byte != 0x7f && character != '"' && character != '=';
    }
    return plain ? value : Json(std::string_view(value)).dump();
}

std::string one_line(std::string_view message) {
    std::string out;
    out.reserve(message.size());
    for (const char character : message) {
        const auto byte = static_cast<unsigned char>(character);
        if (byte >= 0x20 && byte != 0x7f) {
            out.push_back(character);
        } else {
            out += fmt::format("\\x{:02x}", byte);
        }
    }
    return out;
}

std::string render(LogLevel level, std::string_view component, std::string_view message,
                   std::initializer_list<LogField> fields) {
    const std::string time = iso8601_micros(SystemClock().wall_ns());
    if (g_json.load(std::memory_order_relaxed)) {
        Json line = Json::object({{"time", time},
                                  {"level", level_name(level)},
                                  {"component", component},
                                  {"message", message}});
        for (const LogField& field : t_scope) {
            line.set(field.key, field.value);
        }
        for (const LogField& field : fields) {
            line.set(field.key, field.value);
        }
        return line.dump();
    }
    std::string line =
        fmt::format("{} {:5} {} {}", time, level_name(level), component, one_line(message));
    for (const LogField& field : t_scope) {
        line += fmt::format(" {}={}", field.key, text_value(field.value));
    }
    for (const LogField& field : fields) {
        line += fmt::format(" {}={}", field.key, text_value(field.value));
    }
    return line;
}

}  // namespace

Result<void> log_init(const LogOptions& options) {
    g_level = options.level;
    g_json = options.json;
    if (options.file.empty()) {
        return {};
    }
    try {
        auto made = std::make_shared<spdlog::logger>(
            "kumoi", std::make_shared<spdlog::sinks::basic_file_sink_mt>(options.file));
        made->set_pattern("%v");
        made->set_level(spdlog::level::trace);
        made->flush_on(spdlog::level::trace);
        logger() = std::move(made);
    } catch (const std::exception& failure) {
        return Error::io("opening the log file {}: {}", options.file, failure.what());
    }
    return {};
}

void log_flush() {
    logger()->flush();
}

bool log_enabled(LogLevel level) {
    return level >= g_level.load(std::memory_order_relaxed);
}

void log_line(LogLevel level, std::string_view component, std::string_view message,
              std::initializer_list<LogField> fields) {
    if (!log_enabled(level)) {
        return;
    }
    logger()->log(spdlog::level::info, "{}", render(level, component, message, fields));
}

LogScope::LogScope(std::initializer_list<LogField> fields) : count_(fields.size()) {
    t_scope.insert(t_scope.end(), fields.begin(), fields.end());
}

LogScope::~LogScope() {
    t_scope.erase(t_scope.end() - static_cast<ptrdiff_t>(count_), t_scope.end());
}

std::vector<LogField> log_scope_fields() {
    return t_scope;
}

LogAdopt::LogAdopt(std::vector<LogField> fields)
    : saved_(std::exchange(t_scope, std::move(fields))) {}

LogAdopt::~LogAdopt() {
    t_scope = std::move(saved_);
}

}  // namespace kumoi
