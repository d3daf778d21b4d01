#include "compute/conductor/database.h"

#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Exception.h>
#include <SQLiteCpp/Statement.h>
#include <sqlite3.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <unordered_map>

#include "base/assert.h"
#include "base/fd.h"

namespace kumoi::compute {
namespace {

constexpr int kBusyTimeoutMs = 10'000;        // another process holds the file (a backup)
constexpr size_t kReaderConnectionsMax = 8;   // readers beyond wait
constexpr size_t kCachedStatementsMax = 256;  // per connection; then the cache starts over

Error to_error(const SQLite::Exception& exception, std::string_view what) {
    const int code = exception.getErrorCode() & 0xff;
    switch (code) {
        case SQLITE_CONSTRAINT:
            return Error::conflict("The database refused {}: {}.", what, exception.what())
                .with_fault("ConstraintViolation");
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            return Error::unavailable("The database stayed locked for {} ms during {}.",
                                      kBusyTimeoutMs, what)
                .with_hint("End the other program that holds the file.");
        case SQLITE_FULL:
            return Error::exhausted("No room for {}: {}.", what, exception.what())
                .with_hint("Free space on the disk that holds state_path.");
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return Error::corrupt("The database is damaged ({}) during {}.", exception.what(), what)
                .with_hint("Stop kumoi-compute and restore the file from a backup.");
        case SQLITE_IOERR:
        case SQLITE_CANTOPEN:
        case SQLITE_READONLY:
        case SQLITE_PERM:
            return Error::io("The database failed during {}: {}.", what, exception.what());
        default:
            return Error::internal("SQLite error {} during {}: {}.", exception.getErrorCode(), what,
                                   exception.what());
    }
}

const SqlValue& column_at(const std::vector<SqlValue>& columns, size_t index) {
    KUMOI_ASSERT(index < columns.size());
    return columns[index];
}

void bind(SQLite::Statement& statement, int index, const SqlValue& value) {
    if (const auto* integer = std::get_if<int64_t>(&value)) {
        statement.bind(index, *integer);
    } else if (const auto* real = std::get_if<double>(&value)) {
        statement.bind(index, *real);
    } else if (const auto* text = std::get_if<std::string>(&value)) {
        statement.bind(index, *text);
    } else {
        statement.bind(index);
    }
}

SqlRow read_row(SQLite::Statement& statement) {
    std::vector<SqlValue> columns;
    const int count = statement.getColumnCount();
    columns.reserve(static_cast<size_t>(count));
    for (int index = 0; index < count; ++index) {
        const SQLite::Column column = statement.getColumn(index);
        switch (column.getType()) {
            case SQLITE_INTEGER: columns.emplace_back(column.getInt64()); break;
            case SQLITE_FLOAT: columns.emplace_back(column.getDouble()); break;
            case SQLITE_NULL: columns.emplace_back(std::monostate()); break;
            default: columns.emplace_back(column.getString()); break;
        }
    }
    return SqlRow(std::move(columns));
}

}  // namespace

bool SqlRow::is_null(size_t index) const {
    return std::holds_alternative<std::monostate>(column_at(columns_, index));
}

int64_t SqlRow::integer(size_t index) const {
    const SqlValue& value = column_at(columns_, index);
    if (const auto* real = std::get_if<double>(&value)) {
        return static_cast<int64_t>(*real);
    }
    const auto* integer = std::get_if<int64_t>(&value);
    return integer != nullptr ? *integer : 0;
}

double SqlRow::real(size_t index) const {
    const SqlValue& value = column_at(columns_, index);
    if (const auto* integer = std::get_if<int64_t>(&value)) {
        return static_cast<double>(*integer);
    }
    const auto* real = std::get_if<double>(&value);
    return real != nullptr ? *real : 0;
}

const std::string& SqlRow::text(size_t index) const {
    static const std::string kEmpty;
    const auto* text = std::get_if<std::string>(&column_at(columns_, index));
    return text != nullptr ? *text : kEmpty;
}

std::optional<std::string> SqlRow::text_or_null(size_t index) const {
    return is_null(index) ? std::nullopt : std::optional<std::string>(text(index));
}

struct SqlSession::Connection {
    explicit Connection(const std::string& path)
        : database(path, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, kBusyTimeoutMs) {}

    // The prepared statement of this text, reset, with nothing bound.
    SQLite::Statement& prepare(const std::string& sql) {
        auto found = statements.find(sql);
        if (found == statements.end()) {
            if (statements.size() >= kCachedStatementsMax) {
                statements.clear();
            }
            found =
                statements.emplace(sql, std::make_unique<SQLite::Statement>(database, sql)).first;
        }
        return *found->second;
    }

    SQLite::Database database;  // outlives its statements: declared before them
    std::unordered_map<std::string, std::unique_ptr<SQLite::Statement>> statements;
};

namespace {

// Leaves a cached statement without bindings and without a lock on the database.
class StatementReset {
public:
    explicit StatementReset(SQLite::Statement& statement) : statement_(statement) {}
    ~StatementReset() {
        statement_.tryReset();
        try {
            statement_.clearBindings();
        } catch (const SQLite::Exception&) {
            // Only misuse fails here, and the next bind() reports that.
        }
    }
    StatementReset(const StatementReset&) = delete;
    StatementReset& operator=(const StatementReset&) = delete;

private:
    SQLite::Statement& statement_;
};

Result<void> bind_all(SQLite::Statement& statement, const std::vector<SqlValue>& values) {
    const auto wanted = static_cast<size_t>(statement.getBindParameterCount());
    if (wanted != values.size()) {
        return Error::internal("SQL statement takes {} values, {} given: {}", wanted, values.size(),
                               statement.getQuery());
    }
    for (size_t index = 0; index < values.size(); ++index) {
        bind(statement, static_cast<int>(index) + 1, values[index]);
    }
    return {};
}

}  // namespace

Result<int64_t> SqlSession::run_values(const std::string& sql,
                                       const std::vector<SqlValue>& values) {
    try {
        SQLite::Statement& statement = connection_.prepare(sql);
        const StatementReset reset(statement);
        TRY(bind_all(statement, values));
        while (statement.executeStep()) {
            // RETURNING clauses and pragmas give rows nobody asked for here.
        }
        return static_cast<int64_t>(connection_.database.getChanges());
    } catch (const SQLite::Exception& exception) {
        return to_error(exception, sql);
    }
}

Result<std::vector<SqlRow>> SqlSession::query_values(const std::string& sql,
                                                     const std::vector<SqlValue>& values) {
    try {
        SQLite::Statement& statement = connection_.prepare(sql);
        const StatementReset reset(statement);
        TRY(bind_all(statement, values));
        std::vector<SqlRow> rows;
        while (statement.executeStep()) {
            rows.push_back(read_row(statement));
        }
        return rows;
    } catch (const SQLite::Exception& exception) {
        return to_error(exception, sql);
    }
}

int64_t SqlSession::last_insert_id() const {
    return connection_.database.getLastInsertRowid();
}

// The writer connection and a pool of readers, opened when first needed. A ":memory:" database
// lives in one connection, so there the writer serves readers too, one at a time.
struct Database::State {
    explicit State(std::string file) : path(std::move(file)), in_memory(path == ":memory:") {}

    std::unique_ptr<SqlSession::Connection> connect(bool writing) const {
        auto connection = std::make_unique<SqlSession::Connection>(path);
        SQLite::Database& database = connection->database;
        database.exec("PRAGMA foreign_keys = ON");
        database.exec("PRAGMA temp_store = MEMORY");
        if (writing) {
            // NORMAL: SQLite never corrupts, and a commit does not wait for the disk; sync() makes
            // commits durable, many at once. WAL: readers never wait for a writer.
            database.exec("PRAGMA journal_mode = WAL");
            database.exec("PRAGMA synchronous = NORMAL");
            database.exec("PRAGMA journal_size_limit = 67108864");
        } else {
            database.exec("PRAGMA query_only = ON");
        }
        return connection;
    }

    Result<std::unique_ptr<SqlSession::Connection>> take_reader() {
        {
            std::unique_lock lock(readers_mutex);
            reader_returned.wait(lock, [&] {
                return !idle_readers.empty() || readers_open < kReaderConnectionsMax;
            });
            if (!idle_readers.empty()) {
                auto reader = std::move(idle_readers.back());
                idle_readers.pop_back();
                return reader;
            }
            ++readers_open;
        }
        try {
            return connect(false);
        } catch (const SQLite::Exception& exception) {
            const std::lock_guard lock(readers_mutex);
            --readers_open;
            reader_returned.notify_one();
            return to_error(exception, "opening a reader");
        }
    }

    void give_back(std::unique_ptr<SqlSession::Connection> reader) {
        const std::lock_guard lock(readers_mutex);
        idle_readers.push_back(std::move(reader));
        reader_returned.notify_one();
    }

    const std::string path;
    const bool in_memory;
    // Waits until commit number `commit` is durable. One thread syncs the log for all who wait.
    Result<void> sync_to(uint64_t commit) {
        std::unique_lock lock(sync_mutex);
        while (synced < commit) {
            if (syncing) {
                sync_ended.wait(lock);
                continue;
            }
            syncing = true;
            const uint64_t target = committed.load();
            lock.unlock();
            auto outcome = sync_log();
            lock.lock();
            syncing = false;
            if (outcome.ok()) {
                synced = std::max(synced, target);
            }
            sync_ended.notify_all();
            if (!outcome.ok()) {
                return outcome;
            }
        }
        return {};
    }

    // The log keeps its file while the writer is open, so one descriptor serves for good.
    Result<void> sync_log() {
        if (!log.is_open()) {
            log = TRY_CONTEXT(open_file(path + "-wal", O_RDWR), "opening the database's log");
        }
        if (::fdatasync(log.get()) != 0) {
            return Error::from_errno(errno, "writing the database's log to disk");
        }
        return {};
    }

    std::mutex writer_mutex;  // held for the whole transaction
    std::atomic<uint64_t> committed{0};
    std::mutex sync_mutex;  // guards synced and syncing; released while the disk is synced
    std::condition_variable sync_ended;
    uint64_t synced = 0;
    bool syncing = false;
    UniqueFd log;  // used by the one thread that syncs
    std::unique_ptr<SqlSession::Connection> writer;
    std::mutex readers_mutex;
    std::condition_variable reader_returned;
    std::vector<std::unique_ptr<SqlSession::Connection>> idle_readers;
    size_t readers_open = 0;
};

namespace {

// The databases this thread is inside of. A second transaction in one of them would wait for
// itself.
thread_local std::vector<const void*> open_transactions;

class NestingGuard {
public:
    explicit NestingGuard(const void* database) {
        for (const void* other : open_transactions) {
            KUMOI_ASSERT(other != database);
        }
        open_transactions.push_back(database);
    }
    ~NestingGuard() { open_transactions.pop_back(); }
    NestingGuard(const NestingGuard&) = delete;
    NestingGuard& operator=(const NestingGuard&) = delete;
};

Result<void> run_in_transaction(SQLite::Database& database, std::string_view begin,
                                const std::function<Result<void>()>& function) {
    const auto roll_back = [&]() noexcept {
        try {
            database.exec("ROLLBACK");
        } catch (const SQLite::Exception&) {
            // SQLite has rolled back by itself (disk full, I/O error).
        }
    };
    try {
        database.exec(std::string(begin));
    } catch (const SQLite::Exception& exception) {
        return to_error(exception, "beginning a transaction");
    }
    auto outcome = function();
    if (!outcome.ok()) {
        roll_back();
        return outcome;
    }
    try {
        database.exec("COMMIT");
    } catch (const SQLite::Exception& exception) {
        roll_back();
        return to_error(exception, "committing");
    }
    return {};
}

}  // namespace

Database::Database() = default;
Database::~Database() = default;

Result<std::unique_ptr<Database>> Database::open(const std::string& path) {
    std::unique_ptr<Database> database(new Database());
    database->state_ = std::make_unique<State>(path);
    if (!database->state_->in_memory) {
        // Password hashes live here: ours alone from the first byte. SQLite gives -wal and -shm the
        // same mode.
        TRY_CONTEXT(open_file(path, O_RDWR | O_CREAT, 0600), "opening the database");
    }
    try {
        database->state_->writer = database->state_->connect(true);
    } catch (const SQLite::Exception& exception) {
        return to_error(exception, "opening " + path);
    }
    return database;
}

Result<void> Database::transact(bool writing,
                                const std::function<Result<void>(SqlSession&)>& function) {
    const NestingGuard guard(this);
    if (writing || state_->in_memory) {
        const std::lock_guard lock(state_->writer_mutex);
        SqlSession session(*state_->writer);
        auto outcome =
            run_in_transaction(state_->writer->database, writing ? "BEGIN IMMEDIATE" : "BEGIN",
                               [&] { return function(session); });
        if (writing && outcome.ok()) {
            ++state_->committed;
        }
        return outcome;
    }
    auto reader = TRY(state_->take_reader());
    SqlSession session(*reader);
    auto outcome = run_in_transaction(reader->database, "BEGIN", [&] { return function(session); });
    state_->give_back(std::move(reader));
    return outcome;
}

Result<void> Database::sync() {
    return state_->in_memory ? Result<void>() : state_->sync_to(state_->committed.load());
}

Result<void> Database::migrate(std::string_view component,
                               const std::vector<std::string>& statements) {
    return write([&](SqlSession& sql) -> Result<void> {
        TRY(
            sql.run("CREATE TABLE IF NOT EXISTS schema_versions("
                    "component TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID"));
        const auto row = TRY(
            sql.query_one("SELECT version FROM schema_versions WHERE component = ?", component));
        const auto done = static_cast<size_t>(row ? row->integer(0) : 0);
        if (done > statements.size()) {
            return Error::unsupported(
                       "The database holds version {} of the {} tables, this program knows {}.",
                       done, component, statements.size())
                .with_hint("Run the newer kumoi-compute that wrote it, or restore a backup.");
        }
        for (size_t index = done; index < statements.size(); ++index) {
            try {
                sql.connection_.database.exec(statements[index]);  // may hold several statements
            } catch (const SQLite::Exception& exception) {
                return to_error(exception, fmt::format("{} tables, step {}", component, index + 1));
            }
        }
        TRY(
            sql.run("INSERT INTO schema_versions(component, version) VALUES(?, ?) "
                    "ON CONFLICT(component) DO UPDATE SET version = excluded.version",
                    component, statements.size()));
        return {};
    });
}

}  // namespace kumoi::compute
