// The node's journal from arbitrary bytes: it opens, counts what is damaged, names what is open;
// opened once more it says the same, and a verb that begins is there after the next start and gone
// after its end. A line that begins with '+' gets its right checksum, so that records get through.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "compute/manager/journal.h"

namespace {

using namespace kumoi;           // NOLINT: a test
using namespace kumoi::compute;  // NOLINT: a test

std::string with_checksums(std::string_view text) {
    constexpr size_t kChecksumDigits = 16;
    std::string out;
    while (!text.empty()) {
        const size_t end = text.find('\n');
        const std::string_view line = text.substr(0, end);
        if (line.starts_with('+')) {
            out += digest_hex(DigestKind::Sha256, line.substr(1)).substr(0, kChecksumDigits);
            out += ' ';
            out += line.substr(1);
        } else {
            out += line;
        }
        if (end == std::string_view::npos) {
            break;
        }
        out += '\n';
        text.remove_prefix(end + 1);
    }
    return out;
}

void require_same(const std::vector<OpenOperation>& a, const std::vector<OpenOperation>& b) {
    KUMOI_ASSERT(a.size() == b.size());
    for (size_t i = 0; i < a.size(); ++i) {
        KUMOI_ASSERT(a[i].id == b[i].id);
        KUMOI_ASSERT(a[i].verb == b[i].verb);
        KUMOI_ASSERT(a[i].instance_uuid == b[i].instance_uuid);
        KUMOI_ASSERT(a[i].steps == b[i].steps);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const bool quiet =
        log_init({.level = LogLevel::Error, .file = "/dev/null", .json = false}).ok();
    KUMOI_ASSERT(quiet);
    static const TemporaryDirectory directory = TemporaryDirectory::create("journal_fuzz").value();
    const std::string path = directory.path() + "/journal";
    const std::string text = with_checksums({reinterpret_cast<const char*>(data), size});
    KUMOI_ASSERT(write_file_atomic(path, text).ok());
    const SystemClock clock;
    const JournalOptions options{.sync = false, .size_max = 4096, .on_write = {}};
    auto first = Journal::open(path, clock, options);
    if (!first.ok()) {
        return 0;
    }
    const auto open = (*first)->open_operations();
    first->reset();
    auto second = Journal::open(path, clock, options).value();
    require_same(open, second->open_operations());
    const auto operation = second->begin("build", "the server", {.request_id = "req-1"});
    if (!operation.ok()) {
        return 0;
    }
    second->step(*operation, "claimed");
    second.reset();
    auto third = Journal::open(path, clock, options).value();
    KUMOI_ASSERT(third->open_operations().size() == open.size() + 1);
    third->done(*operation);
    third.reset();
    require_same(open, Journal::open(path, clock, options).value()->open_operations());
    return 0;
}
