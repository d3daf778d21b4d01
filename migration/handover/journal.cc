#include "migration/handover/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/file_lock.h"
#include "base/little_endian.h"

namespace kumoi::migration {

namespace {

constexpr std::string_view kMagic = "kumoiHO1";
constexpr size_t kChecked = HandoverJournal::kRecordSize - sizeof(uint32_t);
using Record = std::array<std::byte, HandoverJournal::kRecordSize>;

struct Entry {
    HandoverTerms terms;
    uint32_t sequence = 0;
    HandoverMark mark = HandoverMark::Offered;
};

Record encode(const Entry& entry, int64_t wall_ns) {
    Record record{};
    std::memcpy(record.data(), kMagic.data(), kMagic.size());
    std::memcpy(record.data() + 8, entry.terms.id.data(), entry.terms.id.size());
    store_little_endian(record, 24, entry.terms.epoch);
    store_little_endian(record, 32, entry.sequence);
    store_little_endian(record, 36, static_cast<uint8_t>(entry.mark));
    store_little_endian(record, 37, static_cast<uint8_t>(entry.terms.role));
    store_little_endian(record, 40, static_cast<uint64_t>(wall_ns));
    store_little_endian(record, kChecked, crc32c(std::span(record).first(kChecked)));
    return record;
}

std::optional<Entry> decode(std::span<const std::byte> record) {
    if (std::memcmp(record.data(), kMagic.data(), kMagic.size()) != 0 ||
        load_little_endian<uint32_t>(record, kChecked) != crc32c(record.first(kChecked))) {
        return std::nullopt;
    }
    Entry entry;
    std::memcpy(entry.terms.id.data(), record.data() + 8, entry.terms.id.size());
    entry.terms.epoch = load_little_endian<uint64_t>(record, 24);
    entry.sequence = load_little_endian<uint32_t>(record, 32);
    const auto mark = load_little_endian<uint8_t>(record, 36);
    const auto role = load_little_endian<uint8_t>(record, 37);
    if (mark < 1 || mark > static_cast<uint8_t>(HandoverMark::Declined) || role < 1 || role > 2) {
        return std::nullopt;
    }
    entry.mark = static_cast<HandoverMark>(mark);
    entry.terms.role = static_cast<HandoverRole>(role);
    return entry;
}

class FileStore final : public JournalStore {
public:
    explicit FileStore(UniqueFd file) : file_(std::move(file)) {}
    Result<void> write(uint64_t offset, std::span<const std::byte> bytes) override {
        TRY(pwrite_all(file_.get(), bytes, offset));
        if (fdatasync(file_.get()) != 0) {
            return Error::from_errno(errno, "cannot sync the journal of a handover");
        }
        return {};
    }
    Result<std::string> read() override {
        std::string bytes(HandoverJournal::kRecords * HandoverJournal::kRecordSize, '\0');
        auto span = std::as_writable_bytes(std::span(bytes));
        bytes.resize(TRY(pread_some(file_.get(), span, 0)));
        return bytes;
    }

private:
    UniqueFd file_;  // holds the lock
};

Error held(const std::string& path) {
    return Error::conflict("the journal of a handover {} is held by a living process", path)
        .with_hint("wait for that migration to end, or abort it");
}

}  // namespace

Result<HandoverJournal> HandoverJournal::create(const std::string& path, const HandoverTerms& terms,
                                                const Clock& clock) {
    auto file = TRY(try_lock_file(path));
    if (!file) {
        return held(path);
    }
    const std::string empty(kRecords * kRecordSize, '\0');
    TRY(pwrite_all(file->get(), std::as_bytes(std::span(empty)), 0));
    const auto slash = path.rfind('/');
    TRY(sync_directory(slash == std::string::npos ? "." : path.substr(0, slash)));
    return over(std::make_unique<FileStore>(std::move(*file)), terms, clock);
}

Result<HandoverJournal> HandoverJournal::over(std::unique_ptr<JournalStore> store,
                                              const HandoverTerms& terms, const Clock& clock) {
    HandoverJournal journal(std::move(store), clock);
    journal.terms_ = terms;
    TRY(journal.record(terms.role == HandoverRole::Source ? HandoverMark::Offered
                                                          : HandoverMark::Joined));
    return journal;
}

Result<HandoverJournal> HandoverJournal::adopt(UniqueFd file, const HandoverTerms& terms,
                                               const Clock& clock) {
    const std::string empty(kRecords * kRecordSize, '\0');
    TRY(pwrite_all(file.get(), std::as_bytes(std::span(empty)), 0));
    return over(std::make_unique<FileStore>(std::move(file)), terms, clock);
}

Result<std::optional<HandoverJournal>> HandoverJournal::open_dead(const std::string& path,
                                                                  const Clock& clock) {
    auto file = TRY(try_lock_file(path, O_RDWR));
    if (!file) {
        return std::optional<HandoverJournal>();
    }
    auto journal = TRY(read(std::make_unique<FileStore>(std::move(*file)), clock));
    return std::optional(std::move(journal));
}

Result<HandoverJournal> HandoverJournal::read(std::unique_ptr<JournalStore> store,
                                              const Clock& clock) {
    HandoverJournal journal(std::move(store), clock);
    TRY(journal.load());
    return journal;
}

Result<void> HandoverJournal::load() {
    const std::string bytes = TRY(store_->read());
    const auto all = std::as_bytes(std::span(bytes));
    const size_t count = std::min<size_t>(bytes.size() / kRecordSize, kRecords);
    std::optional<Entry> last;
    for (size_t i = 0; i < count; ++i) {
        auto entry = decode(all.subspan(i * kRecordSize, kRecordSize));
        if (!entry || entry->sequence != i) {
            continue;  // never written whole
        }
        last = entry;
        next_ = static_cast<uint32_t>(i) + 1;
    }
    if (!last) {
        return Error::corrupt("the journal of a handover has no whole record in {} bytes",
                              bytes.size())
            .with_hint("no guest was given away by it; remove it");
    }
    terms_ = last->terms;
    mark_ = last->mark;
    return {};
}

Result<void> HandoverJournal::record(HandoverMark mark) {
    if (next_ >= kRecords) {
        return Error::exhausted("the journal of a handover is full: {} records", kRecords);
    }
    const Entry entry{.terms = terms_, .sequence = next_, .mark = mark};
    const uint64_t offset = uint64_t{next_++} * kRecordSize;  // never twice to one place
    const Record bytes = encode(entry, clock_->wall_ns());
    TRY(store_->write(offset, bytes));
    mark_ = mark;
    return {};
}

}  // namespace kumoi::migration
