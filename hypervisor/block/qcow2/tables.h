// Reading what only opening, checking and listing need: snapshot table and bitmap directory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/block/qcow2/format.h"
#include "hypervisor/block/qcow2/io_port.h"

namespace kumoi::hypervisor::qcow2 {

struct SnapshotEntry {
    std::string id;
    std::string name;
    uint64_t l1_offset = 0;
    uint32_t l1_entries = 0;
    uint64_t vm_state_bytes = 0;
    uint64_t disk_size = 0;    // 0: not recorded
    uint32_t time_s = 0;       // since 1970
    uint64_t table_bytes = 0;  // in the last entry: of the whole table
};

inline constexpr uint32_t kBitmapInUse = 1;
inline constexpr uint32_t kBitmapAuto = 2;
inline constexpr uint32_t kBitmapExtraCompatible = 4;

struct BitmapEntry {
    std::string name;
    uint64_t table_offset = 0;
    uint32_t flags = 0;
    uint8_t type = 1;
    uint8_t granularity_bits = 16;
    std::vector<std::byte> extra;
    std::vector<uint64_t> table;  // host byte order
};

// All of these want a port that completes at once.
Result<void> read_bytes(IoPort& port, HostFile& file, uint64_t offset, void* to, uint64_t size,
                        const std::string& what);
Result<void> write_bytes(IoPort& port, HostFile& file, uint64_t offset, const void* from,
                         uint64_t size, const std::string& what);
Result<Header> read_header(IoPort& port, HostFile& file);
Result<std::vector<SnapshotEntry>> read_snapshot_table(IoPort& port, HostFile& file,
                                                       const Header& header);
Result<std::vector<BitmapEntry>> read_bitmap_directory(IoPort& port, HostFile& file,
                                                       const Header& header);

}  // namespace kumoi::hypervisor::qcow2
