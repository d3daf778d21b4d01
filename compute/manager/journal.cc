#include "compute/manager/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"

namespace kumoi::compute {
namespace {

constexpr size_t kChecksumDigits = 16;
constexpr uint64_t kFileSizeMax = 1u << 30;  // at open; compaction keeps real ones far below

std::string checksum(std::string_view text) {
    return digest_hex(DigestKind::Sha256, text).substr(0, kChecksumDigits);
}

std::string to_line(const Json& record) {
    const std::string body = record.dump();
    return checksum(body) + " " + body + "\n";
}

// The record of one line without its newline; nothing when it is damaged.
std::optional<Json> from_line(std::string_view line) {
    if (line.size() < kChecksumDigits + 2 || line[kChecksumDigits] != ' ') {
        return std::nullopt;
    }
    const std::string_view body = line.substr(kChecksumDigits + 1);
    if (checksum(body) != line.substr(0, kChecksumDigits)) {
        return std::nullopt;
    }
    auto record = Json::parse(body);
    return record.ok() ? std::optional(std::move(*record)) : std::nullopt;
}

Json to_json(const RequestContext& context) {
    return Json::object({{"request_id", context.request_id},
                         {"user_id", context.user_id},
                         {"project_id", context.project_id},
                         {"is_admin", context.is_admin}});
}

RequestContext context_from_json(const Json* json) {
    RequestContext context;
    if (json != nullptr) {
        context.request_id = json->string_or("request_id");
        context.user_id = json->string_or("user_id");
        context.project_id = json->string_or("project_id");
        context.is_admin = json->bool_or("is_admin");
    }
    return context;
}

}  // namespace

Journal::Journal(std::string path, const Clock& clock, JournalOptions options)
    : path_(std::move(path)), clock_(clock), options_(std::move(options)) {}

Result<std::unique_ptr<Journal>> Journal::open(const std::string& path, const Clock& clock,
                                               JournalOptions options) {
    std::unique_ptr<Journal> journal(new Journal(path, clock, std::move(options)));
    TRY_CONTEXT(journal->load(), "opening the journal");
    return journal;
}

Result<uint64_t> Journal::begin(std::string_view verb, std::string_view instance_uuid,
                                const RequestContext& context) {
    uint64_t operation = 0;
    {
        const std::lock_guard lock(mutex_);
        operation = next_operation_++;
    }
    const Json record = Json::object({{"op", operation},
                                      {"event", "begin"},
                                      {"verb", verb},
                                      {"server", instance_uuid},
                                      {"context", to_json(context)},
                                      {"at", iso8601_micros(clock_.wall_ns())}});
    TRY_CONTEXT(append(operation, record, true), "writing the journal {}", path_);
    return operation;
}

void Journal::step(uint64_t operation, std::string_view name) {
    const auto result = append(
        operation, Json::object({{"op", operation}, {"event", "step"}, {"step", name}}), false);
    if (!result.ok()) {
        log_warn("journal", "a step was not recorded",
                 {{"step", name}, {"why", result.error().text()}});
    }
}

void Journal::done(uint64_t operation) {
    const auto result =
        append(operation, Json::object({{"op", operation}, {"event", "done"}}), false);
    if (!result.ok()) {
        log_warn("journal", "an end was not recorded; the operation is checked again at next start",
                 {{"operation", operation}, {"why", result.error().text()}});
    }
}

std::vector<OpenOperation> Journal::open_operations() const {
    const std::lock_guard lock(mutex_);
    std::vector<OpenOperation> operations;
    for (const auto& [id, entry] : open_) {
        operations.push_back(entry.operation);
    }
    return operations;
}

// Records what the line means in memory. False: it makes no sense.
bool Journal::apply(const Json& record, std::string_view line) {
    constexpr int64_t kNumberMax = int64_t{1} << 62;  // more operations than a node ever has
    const int64_t number = record.integer_or("op");
    if (number < 0 || number > kNumberMax) {
        return false;
    }
    const auto id = static_cast<uint64_t>(number);
    const std::string event = record.string_or("event");
    next_operation_ = std::max(next_operation_, id + 1);
    if (event == "begin") {
        Entry& entry = open_[id] = Entry{};  // a number that comes again has nothing of before
        entry.operation.id = id;
        entry.operation.verb = record.string_or("verb");
        entry.operation.instance_uuid = record.string_or("server");
        entry.operation.context = context_from_json(record.find("context"));
        entry.lines = line;
        return true;
    }
    const auto found = open_.find(id);
    if (found == open_.end()) {
        return event == "step" || event == "done";  // its begin was compacted away or damaged
    }
    if (event == "step") {
        found->second.operation.steps.push_back(record.string_or("step"));
        found->second.lines += line;
        return true;
    }
    open_.erase(found);
    return event == "done";
}

Result<void> Journal::load() {
    std::string content;
    if (path_exists(path_)) {
        content = TRY(read_file(path_, kFileSizeMax));
    }
    bool torn = false;
    size_t start = 0;
    while (start < content.size()) {
        const size_t end = content.find('\n', start);
        if (end == std::string::npos) {  // torn by the crash: it was never acknowledged
            log_warn("journal", "dropped a torn last record", {{"bytes", content.size() - start}});
            torn = true;
            break;
        }
        const std::string_view line(content.data() + start, end - start);
        const auto record = from_line(line);
        if (!record || !apply(*record, std::string(line) + "\n")) {
            ++damaged_records_;
        }
        start = end + 1;
    }
    if (damaged_records_ > 0) {
        log_error("journal", "skipped damaged records",
                  {{"count", damaged_records_}, {"path", path_}});
    }
    const bool clean = !torn && damaged_records_ == 0 && content.size() <= options_.size_max;
    if (!clean || !path_exists(path_)) {
        return compact();
    }
    file_ = TRY(open_file(path_, O_WRONLY | O_APPEND));
    file_size_ = content.size();
    return {};
}

Result<void> Journal::append(uint64_t operation, const Json& record, bool durable) {
    if (options_.on_write) {
        options_.on_write();
    }
    const std::string line = to_line(record);
    std::unique_lock lock(mutex_);
    const uint64_t ticket = ++appended_;
    pending_ += line;
    apply(record, line);
    const bool sync = durable && options_.sync;
    durable_waiters_ += sync ? 1 : 0;
    Result<void> result;
    while (result.ok() && (sync ? synced_ : written_) < ticket) {
        if (ticket <= failed_) {
            result = failure_;
        } else if (!flushing_) {
            result = flush(lock, sync);
        } else if (sync) {
            flushed_.wait(lock);
        } else {
            break;  // the thread that is writing takes ours along before it leaves
        }
    }
    durable_waiters_ -= sync ? 1 : 0;
    if (!flushing_ && durable_waiters_ == 0 && !pending_.empty() && result.ok()) {
        result = flush(lock, false);
    }
    if (!result.ok() && durable) {
        open_.erase(operation);  // refused: it never began
    }
    return result;
}

// Writes everything pending, once, with the lock released meanwhile.
Result<void> Journal::flush(std::unique_lock<std::mutex>& lock, bool sync) {
    flushing_ = true;
    Result<void> result;
    if (file_size_ > std::min(options_.size_max, kFileSizeMax - 1)) {
        result = compact();
    }
    const std::string batch = std::exchange(pending_, {});
    const uint64_t target = appended_;
    const int fd = file_.get();
    lock.unlock();
    if (result.ok() && !batch.empty()) {
        result = write_all(fd, std::as_bytes(std::span(batch)));
    }
    if (result.ok() && sync && ::fdatasync(fd) != 0) {
        result = Error::from_errno(errno, "syncing " + path_);
    }
    lock.lock();
    file_size_ += batch.size();
    flushing_ = false;
    if (result.ok()) {
        written_ = std::max(written_, target);
        synced_ = sync ? std::max(synced_, target) : synced_;
    } else {
        failed_ = target;
        failure_ = result.error();
        file_size_ = kFileSizeMax;  // the file may end in half a record: write it anew next time
    }
    flushed_.notify_all();
    return result;
}

// Replaces the file by one that holds the open operations alone.
Result<void> Journal::compact() {
    std::string content;
    for (const auto& [id, entry] : open_) {
        content += entry.lines;
    }
    pending_.clear();  // each pending record is in `content`, or belongs to an ended operation
    TRY(write_file_atomic(path_, content, 0600));
    file_ = TRY(open_file(path_, O_WRONLY | O_APPEND));
    file_size_ = content.size();
    return {};
}

}  // namespace kumoi::compute
