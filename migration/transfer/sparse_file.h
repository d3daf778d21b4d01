// A file as a transfer sees it: blocks of kBlockSize, of which those that hold only zeros are left
// out, whether they are holes or written. So both sides agree on the blocks, and on the digest over
// them, whatever their file systems make of holes. One thread; blocks on the disk.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/fd.h"
#include "base/result.h"

namespace kumoi::transfer {

struct Block {
    uint64_t offset = 0;
    std::span<const std::byte> bytes;  // valid until the next call
};

class BlockReader {
public:
    // Reads [offset, end) of an open file; offset begins a block. The descriptor is borrowed.
    BlockReader(int fd, uint64_t offset, uint64_t end);
    Result<std::optional<Block>> next();  // nothing: the end

private:
    Result<bool> skip_holes();  // false: only holes are left

    const int fd_;
    uint64_t offset_;
    const uint64_t end_;
    std::vector<std::byte> buffer_;
};

// SHA-256 over each block's offset, length and bytes.
class BlockDigest {
public:
    void add(uint64_t offset, std::span<const std::byte> bytes);
    // Takes over what the file holds in [0, end).
    Result<void> add_file(int fd, uint64_t end);
    std::string finish() { return digest_.finish(); }  // raw; once

private:
    Digest digest_{DigestKind::Sha256};
};

}  // namespace kumoi::transfer
