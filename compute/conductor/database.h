// Database: the one SQLite file of the standalone control plane (WAL, foreign keys on), over
// SQLiteCpp. Services share one Database. write() runs a function inside one IMMEDIATE transaction
// on the single writer connection (serialised by a mutex); read() runs one on a reader connection
// of a small pool, concurrently with the writer. An Error returned by the function rolls back.
// SQLite's exceptions stop here and become Errors. Any thread; never call write() inside read() or
// write().
//
//     TRY(db.migrate("identity", {"CREATE TABLE ...", "ALTER TABLE ..."}));  // each runs once
//     TRY(db.write([&](SqlSession& sql) -> Result<void> {
//         TRY(sql.run("INSERT INTO users(id, name) VALUES(?, ?)", id, name));
//         return {};
//     }));
//     auto rows = TRY(db.read([&](SqlSession& sql) {
//         return sql.query("SELECT id FROM users WHERE name = ?", name);
//     }));
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "base/result.h"

namespace kumoi::compute {

// One bound parameter or one column. Text is copied.
using SqlValue = std::variant<std::monostate, int64_t, double, std::string>;

class SqlRow {
public:
    explicit SqlRow(std::vector<SqlValue> columns) : columns_(std::move(columns)) {}
    bool is_null(size_t index) const;
    int64_t integer(size_t index) const;          // null: 0
    double real(size_t index) const;              // null: 0
    const std::string& text(size_t index) const;  // null: ""
    std::optional<std::string> text_or_null(size_t index) const;
    size_t size() const { return columns_.size(); }

private:
    std::vector<SqlValue> columns_;
};

namespace sql_detail {
template <class T>
SqlValue to_value(const T& value) {
    if constexpr (std::is_same_v<T, std::nullopt_t> || std::is_same_v<T, std::nullptr_t>) {
        return std::monostate();
    } else if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
        return static_cast<int64_t>(value);
    } else if constexpr (std::is_floating_point_v<T>) {
        return static_cast<double>(value);
    } else if constexpr (std::is_convertible_v<T, std::string_view>) {
        return std::string(std::string_view(value));
    } else {
        return value ? to_value(*value) : SqlValue(std::monostate());  // optional
    }
}
}  // namespace sql_detail

// A connection inside a transaction. Statements are cached per connection.
class SqlSession {
public:
    template <class... Args>
    Result<int64_t> run(const std::string& sql, const Args&... args) {  // rows changed
        return run_values(sql, {sql_detail::to_value(args)...});
    }
    template <class... Args>
    Result<std::vector<SqlRow>> query(const std::string& sql, const Args&... args) {
        return query_values(sql, {sql_detail::to_value(args)...});
    }
    template <class... Args>
    Result<std::optional<SqlRow>> query_one(const std::string& sql, const Args&... args) {
        auto rows = TRY(query_values(sql, {sql_detail::to_value(args)...}));
        if (rows.empty()) {
            return std::optional<SqlRow>();
        }
        return std::optional<SqlRow>(std::move(rows.front()));
    }
    // Constraint violations are Conflict; everything else Internal/Io.
    Result<int64_t> run_values(const std::string& sql, const std::vector<SqlValue>& values);
    Result<std::vector<SqlRow>> query_values(const std::string& sql,
                                             const std::vector<SqlValue>& values);
    int64_t last_insert_id() const;

private:
    friend class Database;
    struct Connection;
    explicit SqlSession(Connection& connection) : connection_(connection) {}
    Connection& connection_;
};

class Database {
public:
    // ":memory:" gives a private database for tests.
    static Result<std::unique_ptr<Database>> open(const std::string& path);
    ~Database();

    // Applies the statements of `component` that have not run yet; refuses a database from the
    // future.
    Result<void> migrate(std::string_view component, const std::vector<std::string>& statements);

    // Returns once the change survives a power cut; concurrent callers share one sync of the disk.
    template <class Function>
    std::invoke_result_t<Function, SqlSession&> write(Function&& function) {
        auto result = write_relaxed(std::forward<Function>(function));
        if (result.ok()) {
            const auto synced = sync();
            if (!synced.ok()) {
                return synced.error();
            }
        }
        return result;
    }
    // As write(), but only the death of this process is survived, until the next write() or sync()
    // of anybody: for what nobody was promised (signs of life, progress, events of a task).
    template <class Function>
    std::invoke_result_t<Function, SqlSession&> write_relaxed(Function&& function) {
        std::optional<std::invoke_result_t<Function, SqlSession&>> result;
        const auto outcome = transact(true, [&](SqlSession& session) -> Result<void> {
            result.emplace(function(session));
            return result->ok() ? Result<void>() : Result<void>(result->error());
        });
        if (!outcome.ok()) {
            return outcome.error();
        }
        return std::move(*result);
    }
    template <class Function>
    std::invoke_result_t<Function, SqlSession&> read(Function&& function) {
        std::optional<std::invoke_result_t<Function, SqlSession&>> result;
        const auto outcome = transact(false, [&](SqlSession& session) -> Result<void> {
            result.emplace(function(session));
            return result->ok() ? Result<void>() : Result<void>(result->error());
        });
        if (!outcome.ok()) {
            return outcome.error();
        }
        return std::move(*result);
    }

    // Everything committed so far, by anybody, is on stable storage when this returns.
    Result<void> sync();

private:
    Database();
    Result<void> transact(bool writing, const std::function<Result<void>(SqlSession&)>& function);
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace kumoi::compute
