// What has changed in a page since it was sent last, as runs of its 512 words of 8 bytes:
//
//     skip u16 | count u16 | `count` new words | skip u16 | ...
//
// `skip` words are as before, `count` (not 0) are new; integers little-endian. The words themselves
// are sent, not their difference, so that applying a delta twice does no harm. Pure; a delta that
// comes from a peer is hostile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "migration/stream/page_frame.h"

namespace kumoi::migration {

// Appends the delta; false, and nothing appended, where it would be longer than kDeltaMax. Nothing
// is appended either where the pages are equal.
bool encode_delta(std::span<const std::byte, kPage> before, std::span<const std::byte, kPage> now,
                  std::vector<std::byte>& out);
// False: not a delta, and the page may be half changed.
bool apply_delta(std::span<const std::byte> delta, std::span<std::byte, kPage> page);

}  // namespace kumoi::migration
