// A qcow2 file of arbitrary bytes is opened, checked, read, written, resized and closed: no crash,
// no endless loop, no unbounded memory; and where writing works, what was written is read back.
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "hypervisor/block/qcow2/check.h"
#include "hypervisor/block/qcow2/dirty_bitmap.h"
#include "hypervisor/block/qcow2/store.h"
#include "tests/support/disk_sim.h"

namespace {

using namespace kumoi::hypervisor::qcow2;  // NOLINT: a test
using kumoi::test::SimFile;
using kumoi::test::SimPort;

constexpr size_t kPiece = 4096;
constexpr uint64_t kFileMax = 64u << 20;  // what it may grow to

std::unique_ptr<SimFile> make_file(const uint8_t* data, size_t size) {
    auto file = std::make_unique<SimFile>(std::vector<uint8_t>(data, data + size));
    file->fault = [](const IoCall& call) {
        const bool grows = call.kind == IoCall::Kind::Truncate || call.kind == IoCall::Kind::Write;
        return grows && call.offset + call.size > kFileMax ? -ENOSPC : 0;
    };
    return file;
}

void check(const uint8_t* data, size_t size) {
    SimPort port;
    auto store =
        Store::open(port, make_file(data, size), {.writable = false, .for_check = true}, nullptr);
    if (store.ok()) {
        (void)check_image(**store, port, Repair::Nothing);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    // The last byte steers; the file is what is before.
    if (size < 2 || size > (1u << 20)) {
        return 0;
    }
    const uint8_t steer = data[--size];
    check(data, size);
    SimPort port;
    StoreOptions options;
    options.extend_bytes = 4096;
    auto opened = Store::open(port, make_file(data, size), options, nullptr);
    if (!opened.ok()) {
        return 0;
    }
    Store& store = **opened;
    DirtyBitmaps bitmaps(store);
    if (!bitmaps.load(port).ok() || store.size() < kPiece) {
        return 0;
    }
    std::vector<uint8_t> buffer(kPiece);
    const iovec vector{buffer.data(), kPiece};
    for (unsigned i = 0; i < 8; ++i) {
        const uint64_t places = store.size() / kPiece;
        const uint64_t offset = (uint64_t{steer} * 2654435761u * i) % places * kPiece;
        (void)run_inline(store.read(port, offset, std::span(&vector, 1), kPiece));
        std::memset(buffer.data(), static_cast<int>(steer + i), kPiece);
        if (run_inline(store.write(port, offset, std::span(&vector, 1), kPiece)) == 0) {
            std::memset(buffer.data(), 0, kPiece);
            if (run_inline(store.read(port, offset, std::span(&vector, 1), kPiece)) == 0 &&
                buffer[kPiece / 2] != static_cast<uint8_t>(steer + i)) {
                __builtin_trap();
            }
        }
        (void)run_inline(store.zero(port, offset, kPiece, (steer & 1) != 0));
        (void)run_inline(store.discard(port, offset, kPiece));
        if (i % 4 == 3) {
            (void)run_inline(store.flush(port));
        }
    }
    if ((steer & 2) != 0) {
        (void)run_inline(store.resize(port, store.size() + kPiece));
    }
    (void)bitmaps.save(port);
    (void)store.close(port);
    return 0;
}
