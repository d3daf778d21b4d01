// Disk files: copies that cost no space and often no time. copy_sparse() shares blocks where the
// file system can (FICLONE), else copies the data and leaves holes as holes. Blocking.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace kumoi::compute {

// `to` must not exist; on error it does not.
Result<void> copy_sparse(const std::string& from, const std::string& to, unsigned mode = 0600);

// Makes a disk at least `size` bytes large; a larger one stays as it is.
Result<void> grow_disk(const std::string& path, uint64_t size);

// The flavor's second disk, an empty ext4 named ephemeral0, and its third, swap space; as Nova
// makes them. Removed first when they are there.
Result<void> make_ephemeral_disk(const std::string& to, int64_t size_gb);
Result<void> make_swap_disk(const std::string& to, int64_t size_mb);

// An empty sparse file of `size` bytes.
Result<void> make_blank_disk(const std::string& to, uint64_t size);

}  // namespace kumoi::compute
