#include "hypervisor/block/qcow2/create.h"

#include <algorithm>

#include "hypervisor/block/qcow2/refcounts.h"
#include "hypervisor/block/qcow2/tables.h"

namespace kumoi::hypervisor::qcow2 {

namespace {

Result<Header> header_for(const CreateOptions& options) {
    Header header;
    header.version = options.version;
    header.cluster_bits = options.cluster_bits;
    header.size = options.size;
    header.refcount_order = options.refcount_order;
    header.compression = options.compression;
    header.backing_file = options.backing_file;
    header.backing_format = options.backing_format;
    if (options.version != 2 && options.version != 3) {
        return Error::invalid("qcow2 version {} does not exist; 2 and 3 do", options.version);
    }
    if (options.cluster_bits < kClusterBitsMin || options.cluster_bits > kClusterBitsMax) {
        return Error::invalid("clusters of 2^{} bytes: 512 bytes to 2 MiB are possible",
                              options.cluster_bits);
    }
    if (options.version == 2 &&
        (options.extended_l2 || options.lazy_refcounts || options.refcount_order != 4 ||
         options.compression != Compression::Zlib)) {
        return Error::invalid(
            "extended L2, lazy refcounts, zstd and refcounts of other than 16 "
            "bits need version 3");
    }
    if (options.extended_l2 && options.cluster_bits < kClusterBitsMinExtended) {
        return Error::invalid("extended L2 entries need clusters of at least 16 KiB");
    }
    if (options.refcount_order > 6) {
        return Error::invalid("refcounts of 2^{} bits: 1 to 64 bits are possible",
                              options.refcount_order);
    }
    if (options.backing_file.size() > kBackingNameMax) {
        return Error::invalid("a backing file name of {} bytes is longer than {}",
                              options.backing_file.size(), kBackingNameMax);
    }
    header.incompatible |= options.extended_l2 ? kIncompatibleExtendedL2 : 0;
    header.incompatible |= options.compression != Compression::Zlib ? kIncompatibleCompression : 0;
    header.compatible |= options.lazy_refcounts ? kCompatibleLazyRefcounts : 0;
    if (options.size > kVirtualSizeMax || header.l1_entries_needed() * 8 > kL1BytesMax) {
        return Error::too_large(
                   "a disk of {} bytes needs an L1 table over 32 MiB with clusters of "
                   "{} bytes",
                   options.size, header.cluster_size())
            .with_hint("use larger clusters");
    }
    return header;
}

}  // namespace

// Header, refcount table, the refcount blocks that count all of these, then the L1 table.
Result<void> create_image(IoPort& port, HostFile& file, const CreateOptions& options) {
    Header header = TRY(header_for(options));
    const uint64_t cluster = header.cluster_size();
    const auto clusters_for = [&](uint64_t bytes) { return (bytes + cluster - 1) / cluster; };
    header.l1_entries = static_cast<uint32_t>(std::max<uint64_t>(header.l1_entries_needed(), 1));
    const uint64_t l1_clusters = clusters_for(uint64_t{header.l1_entries} * 8);
    uint64_t table_clusters = 1;
    uint64_t blocks = 1;
    for (;;) {
        const uint64_t total = 1 + table_clusters + blocks + l1_clusters;
        const uint64_t blocks_needed =
            (total + header.refcounts_per_block() - 1) / header.refcounts_per_block();
        const uint64_t table_needed = clusters_for(blocks_needed * 8);
        if (blocks_needed <= blocks && table_needed <= table_clusters) {
            break;
        }
        blocks = blocks_needed;
        table_clusters = table_needed;
    }
    const uint64_t total = 1 + table_clusters + blocks + l1_clusters;
    header.refcount_table_offset = cluster;
    header.refcount_table_clusters = static_cast<uint32_t>(table_clusters);
    header.l1_offset = (1 + table_clusters + blocks) * cluster;
    std::vector<uint64_t> table(table_clusters * cluster / 8);
    for (uint64_t i = 0; i < blocks; ++i) {
        table[i] = to_be64((1 + table_clusters + i) * cluster);
    }
    std::vector<uint8_t> counts(blocks * cluster);
    for (uint64_t i = 0; i < total; ++i) {
        const uint64_t per_block = header.refcounts_per_block();
        Refcounts::write_entry(&counts[i / per_block * cluster], i % per_block,
                               header.refcount_order, 1);
    }
    const std::vector<std::byte> zeros(l1_clusters * cluster);
    TRY(write_bytes(port, file, cluster, table.data(), table.size() * 8, "the refcount table"));
    TRY(write_bytes(port, file, (1 + table_clusters) * cluster, counts.data(), counts.size(),
                    "refcounts"));
    TRY(write_bytes(port, file, header.l1_offset, zeros.data(), zeros.size(), "the L1 table"));
    file.size = total * cluster;
    // The header last: a file without it is no image.
    const auto bytes = TRY(serialize_header(header));
    return write_bytes(port, file, 0, bytes.data(), bytes.size(), "the header");
}

}  // namespace kumoi::hypervisor::qcow2
