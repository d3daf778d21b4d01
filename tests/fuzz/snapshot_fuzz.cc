// Fuzzes the snapshot reader: any bytes are a file. What it accepts is read to the end. Checksums
// are put right first, so that the input gets past them.

#include <algorithm>
#include <cstring>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "hypervisor/snapshot/snapshot_reader.h"

using namespace kumoi;
using namespace kumoi::hypervisor;
using namespace kumoi::hypervisor::snapshot;

namespace {

constexpr uint64_t kBlocksMax = 64;

template <class T>
void seal_at(std::vector<std::byte>& file, uint64_t offset) {
    if (offset <= file.size() && sizeof(T) <= file.size() - offset) {
        T object;
        std::memcpy(&object, file.data() + offset, sizeof object);
        object.check = crc32c(std::as_bytes(std::span(&object, 1)).first(offsetof(T, check)));
        std::memcpy(file.data() + offset, &object, sizeof object);
    }
}

void repair(std::vector<std::byte>& file) {
    seal_at<Header>(file, 0);
    Trailer trailer;
    const uint64_t at = file.size() - sizeof trailer;
    std::memcpy(&trailer, file.data() + at, sizeof trailer);
    if (trailer.index_offset < file.size() &&
        trailer.index_size <= file.size() - trailer.index_offset) {
        const auto body =
            std::span<const std::byte>(file).subspan(trailer.index_offset, trailer.index_size);
        trailer.index_check = crc32c(body);
        std::memcpy(file.data() + at, &trailer, sizeof trailer);
        if (const auto index = read_index(body)) {
            const uint64_t blocks = std::min(block_count(index->memory_size), kBlocksMax);
            for (uint64_t i = 0; i < blocks && index->table_offset < file.size(); ++i) {
                seal_at<BlockEntry>(file, index->table_offset + i * sizeof(BlockEntry));
            }
        }
    }
    seal_at<Trailer>(file, at);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < sizeof(Header) + sizeof(Trailer) + 1) {
        return 0;
    }
    const bool repaired = data[0] != 0;
    std::vector<std::byte> file(size - 1);
    std::memcpy(file.data(), data + 1, size - 1);
    if (repaired) {
        repair(file);
    }
    const int fd = memfd_create("snapshot", MFD_CLOEXEC);
    if (fd < 0 || write(fd, file.data(), file.size()) < 0) {
        return 0;
    }
    auto reader = SnapshotReader::open(UniqueFd(fd), "fuzz");
    if (!reader) {
        return 0;
    }
    std::vector<std::byte> block(kBlockSize);
    for (uint64_t i = 0; i < std::min((*reader)->block_count(), kBlocksMax); ++i) {
        (void)(*reader)->read_block(i, std::span(block).first((*reader)->block_bytes(i)));
    }
    for (const IndexedSection& section : (*reader)->index().sections) {
        (void)(*reader)->section(section.name);
    }
    return 0;
}
