// HandoverJournal: what one side of one handover has decided, on stable storage before anybody acts
// on it. A file of fixed size in the server's folder, written and allocated before the guest stops,
// so that a mark costs one write and one fdatasync.
//
// While its process lives it holds the file's lock (flock): whoever gets the lock has proof that
// the process is gone, and speaks for it from then on (agent.h). Format, little-endian, records of
// 512 bytes (a sector, so that a write is whole or not there):
//     0 magic "kumoiHO1"  8 id (16 bytes)  24 epoch u64  32 sequence u32  36 mark u8  37 role u8
//     40 wall time ns u64  508 crc32c u32 of what precedes
// The last whole record counts. One thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "migration/handover/handover.h"

namespace kumoi::migration {

enum class HandoverRole : uint8_t { Source = 1, Destination = 2 };

struct HandoverTerms {
    std::array<uint8_t, 16> id{};  // of this migration, the same on both sides
    uint64_t epoch = 0;            // of the source, when the offer was made
    HandoverRole role = HandoverRole::Source;
};

// Where the records are. The seam for tests: a disk that fails, fills up or forgets.
class JournalStore {
public:
    virtual ~JournalStore() = default;
    virtual Result<void> write(uint64_t offset, std::span<const std::byte> bytes) = 0;  // durable
    virtual Result<std::string> read() = 0;
};

class HandoverJournal {
public:
    static constexpr uint64_t kRecordSize = 512;
    static constexpr uint32_t kRecords = 16;

    // A fresh journal; Conflict if a process holds one there. Writes and allocates all of the file.
    static Result<HandoverJournal> create(const std::string& path, const HandoverTerms& terms,
                                          const Clock& clock);
    // The same in a file that somebody else made and locked for us (flock belongs to the open file,
    // so to every descriptor of it): a sandboxed process opens nothing.
    static Result<HandoverJournal> adopt(UniqueFd file, const HandoverTerms& terms,
                                         const Clock& clock);
    // That of a process that is gone: nothing while it lives. NotFound: there is none. Corrupt: no
    // whole record.
    static Result<std::optional<HandoverJournal>> open_dead(const std::string& path,
                                                            const Clock& clock);
    static Result<HandoverJournal> over(std::unique_ptr<JournalStore> store,
                                        const HandoverTerms& terms, const Clock& clock);
    static Result<HandoverJournal> read(std::unique_ptr<JournalStore> store, const Clock& clock);

    // Durable on success; after an error nobody knows. Exhausted: it has no room for more.
    Result<void> record(HandoverMark mark);

    const HandoverTerms& terms() const { return terms_; }
    // The last that is known to be there.
    HandoverMark mark() const { return mark_; }

private:
    HandoverJournal(std::unique_ptr<JournalStore> store, const Clock& clock)
        : store_(std::move(store)), clock_(&clock) {}
    Result<void> load();

    std::unique_ptr<JournalStore> store_;
    const Clock* clock_;
    HandoverTerms terms_;
    HandoverMark mark_ = HandoverMark::Offered;
    uint32_t next_ = 0;  // sequence and place of the next record
};

}  // namespace kumoi::migration
