#include "hypervisor/snapshot/working_set.h"

#include <cstring>

#include <fcntl.h>

#include "base/crc32c.h"
#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint32_t kMagic = 0x5357'4d4b;  // "KMWS"
constexpr size_t kHeaderWords = 4;        // magic, fingerprint, count, checksum of the blocks
constexpr size_t kBlocksMax = 1u << 16;

}  // namespace

std::string working_set_path(const std::string& snapshot) {
    return snapshot + ".ws";
}

std::vector<uint32_t> read_working_set(FileSource& files, const std::string& snapshot,
                                       uint32_t fingerprint) {
    const auto fd = files.open(working_set_path(snapshot), O_RDONLY);
    if (!fd) {
        return {};
    }
    std::vector<uint32_t> words(kHeaderWords + kBlocksMax);
    const auto read = pread_some(fd->get(), std::as_writable_bytes(std::span(words)), 0);
    if (!read || *read < kHeaderWords * sizeof(uint32_t)) {
        return {};
    }
    const size_t count = words[2];
    if (words[0] != kMagic || words[1] != fingerprint || count > kBlocksMax ||
        *read != (kHeaderWords + count) * sizeof(uint32_t)) {
        return {};
    }
    std::vector<uint32_t> blocks(words.begin() + kHeaderWords,
                                 words.begin() + static_cast<ptrdiff_t>(kHeaderWords + count));
    if (crc32c(std::as_bytes(std::span(blocks))) != words[3]) {
        return {};
    }
    return blocks;
}

void write_working_set(FileSource& files, const std::string& snapshot, uint32_t fingerprint,
                       std::span<const uint32_t> blocks) {
    blocks = blocks.first(std::min(blocks.size(), kBlocksMax));
    std::vector<uint32_t> words = {kMagic, fingerprint, static_cast<uint32_t>(blocks.size()),
                                   crc32c(std::as_bytes(blocks))};
    words.insert(words.end(), blocks.begin(), blocks.end());
    const auto fd = files.open(working_set_path(snapshot), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (!fd) {
        log_debug("snapshot", "the working set is not kept", {{"reason", fd.error().text()}});
        return;
    }
    if (auto written = pwrite_all(fd->get(), std::as_bytes(std::span(words)), 0); !written) {
        log_debug("snapshot", "the working set is not kept", {{"reason", written.error().text()}});
    }
}

}  // namespace kumoi::hypervisor
