// Fuzzes the journal of a handover: any bytes are a file, with the checksums of its records put
// right first. What is read can be written on, and the same is read again.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "base/assert.h"
#include "base/crc32c.h"
#include "migration/handover/journal.h"

using namespace kumoi;
using namespace kumoi::migration;

namespace {

class Bytes final : public JournalStore {
public:
    explicit Bytes(std::string& bytes) : bytes_(bytes) {}
    Result<void> write(uint64_t offset, std::span<const std::byte> data) override {
        bytes_.resize(std::max<size_t>(bytes_.size(), offset + data.size()));
        std::memcpy(bytes_.data() + offset, data.data(), data.size());
        return {};
    }
    Result<std::string> read() override { return bytes_; }

private:
    std::string& bytes_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string bytes(reinterpret_cast<const char*>(data), size);
    constexpr size_t kChecked = HandoverJournal::kRecordSize - sizeof(uint32_t);
    for (size_t at = 0; at + HandoverJournal::kRecordSize <= bytes.size();
         at += HandoverJournal::kRecordSize) {
        const uint32_t sum = crc32c(std::as_bytes(std::span(bytes).subspan(at, kChecked)));
        std::memcpy(bytes.data() + at + kChecked, &sum, sizeof sum);
    }
    ManualClock clock;
    auto journal = HandoverJournal::read(std::make_unique<Bytes>(bytes), clock);
    if (!journal.ok() || !journal.value().record(HandoverMark::Aborted).ok()) {
        return 0;
    }
    const auto again = HandoverJournal::read(std::make_unique<Bytes>(bytes), clock);
    KUMOI_ASSERT(again.ok());
    KUMOI_ASSERT(again.value().mark() == HandoverMark::Aborted);
    KUMOI_ASSERT(again.value().terms().epoch == journal.value().terms().epoch);
    return 0;
}
