// SnapshotReader: one snapshot file, checked. Opening reads the header, trailer, index and sections
// (a few hundred KiB, whatever the size of the memory) and refuses what contradicts itself; memory
// is read block by block, each checked against its own checksum.
//
// The file is hostile: lengths and places are checked against its size before they are used, and
// it may shrink or change while it is open, which gives errors. Sections are the reader's for as
// long as it lives. Opening: one thread; blocks: any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/snapshot/format.h"
#include "hypervisor/snapshot/index.h"
#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

// Where the memory of a machine comes from, block by block: a snapshot file, later a peer.
class BlockSource {
public:
    virtual ~BlockSource() = default;
    virtual uint64_t memory_size() const = 0;
    // Fills `out` with the block's bytes (zeros where a page is) and says which pages are not zero.
    // `out` has the block's size. Any thread.
    virtual Result<uint16_t> read_block(uint64_t block, std::span<std::byte> out) = 0;
    // Nobody will ask any more; who still waits gets an error.
    virtual void stop() {}
};

class SnapshotReader final : public BlockSource {
public:
    // `name` is for messages.
    static Result<std::unique_ptr<SnapshotReader>> open(UniqueFd fd, std::string name);

    const SnapshotIndex& index() const { return index_; }
    uint64_t memory_size() const override { return index_.memory_size; }
    uint64_t block_count() const { return snapshot::block_count(index_.memory_size); }
    uint64_t block_bytes(uint64_t block) const;
    Result<uint16_t> read_block(uint64_t block, std::span<std::byte> out) override;

    bool has_section(const std::string& name) const;
    Result<SectionReader> section(const std::string& name) const;
    // Distinguishes this file's content from any other's.
    uint32_t fingerprint() const { return fingerprint_; }

private:
    SnapshotReader(UniqueFd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}
    Result<void> load();
    Result<snapshot::Header> load_header();
    Result<void> load_sections();
    Result<void> read_exactly(std::span<std::byte> out, uint64_t offset) const;
    Result<void> read_raw(uint64_t block, uint16_t present, std::span<std::byte> out) const;
    Result<void> read_frame(uint64_t block, const snapshot::BlockEntry& entry,
                            std::span<std::byte> out) const;
    bool inside(uint64_t offset, uint64_t size) const {
        return size <= file_size_ && offset <= file_size_ - size;
    }
    template <class... Args>
    Error corrupt(fmt::format_string<Args...> format, Args&&... args) const {
        return Error::make(ErrorCode::Corrupt, "snapshot {}: {}", name_,
                           fmt::format(format, std::forward<Args>(args)...));
    }

    UniqueFd fd_;
    const std::string name_;
    uint64_t file_size_ = 0;
    uint32_t fingerprint_ = 0;
    SnapshotIndex index_;
    std::vector<std::vector<std::byte>> bodies_;  // of index_.sections
};

}  // namespace kumoi::hypervisor
