// The index of a snapshot file: what the machine was, and where each section and the block table
// lie. It is itself a section, so it may grow fields by the same rules. Values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/snapshot/section.h"
#include "hypervisor/snapshot/snapshot_writer.h"

namespace kumoi::hypervisor {

struct IndexedSection {
    std::string name;
    uint16_t version = 0;
    uint64_t offset = 0;
    uint64_t size = 0;
    uint32_t checksum = 0;
};

struct SnapshotIndex {
    SnapshotInfo info;
    uint64_t memory_size = 0;
    uint64_t table_offset = 0;
    std::vector<IndexedSection> sections;
};

constexpr size_t kSnapshotSectionsMax = 4096;

SectionWriter write_index(const SnapshotIndex& index);
Result<SnapshotIndex> read_index(std::span<const std::byte> body);

}  // namespace kumoi::hypervisor
