#include "hypervisor/snapshot/index.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint16_t kIndexVersion = 1;
constexpr size_t kConfigSizeMax = 4u << 20;

// Fields of the index; never reused.
enum Field : uint16_t {
    kFieldBoard = 1,
    kFieldProgram = 2,
    kFieldConfig = 3,
    kFieldDirectory = 4,
    kFieldShapeDigest = 5,
    kFieldCreatedNs = 6,
    kFieldMemorySize = 7,
    kFieldTableOffset = 8,
    kFieldSections = 9,
};
enum SectionField : uint16_t { kFieldOffset = 1, kFieldSize = 2, kFieldChecksum = 3 };

}  // namespace

SectionWriter write_index(const SnapshotIndex& index) {
    SectionWriter out("index", kIndexVersion);
    out.text(kFieldBoard, index.info.board).text(kFieldProgram, index.info.program);
    out.text(kFieldConfig, index.info.config).text(kFieldDirectory, index.info.directory);
    out.text(kFieldShapeDigest, index.info.shape_digest);
    out.u64(kFieldCreatedNs, static_cast<uint64_t>(index.info.created_ns));
    out.u64(kFieldMemorySize, index.memory_size).u64(kFieldTableOffset, index.table_offset);
    for (const IndexedSection& section : index.sections) {
        SectionWriter one(section.name, section.version);
        one.u64(kFieldOffset, section.offset).u64(kFieldSize, section.size);
        one.u64(kFieldChecksum, section.checksum);
        out.group(kFieldSections, one);
    }
    return out;
}

Result<SnapshotIndex> read_index(std::span<const std::byte> body) {
    SectionReader in = TRY(SectionReader::parse("index", kIndexVersion, body));
    SnapshotIndex index;
    index.info.board = TRY(in.text(kFieldBoard));
    index.info.program = TRY(in.text(kFieldProgram));
    index.info.config = TRY(in.text(kFieldConfig, kConfigSizeMax));
    index.info.directory = TRY(in.text(kFieldDirectory));
    index.info.shape_digest = TRY(in.text(kFieldShapeDigest));
    index.info.created_ns = static_cast<int64_t>(TRY(in.u64_max(kFieldCreatedNs, INT64_MAX)));
    index.memory_size = TRY(in.u64(kFieldMemorySize));
    index.table_offset = TRY(in.u64(kFieldTableOffset));
    for (SectionReader& one : TRY(in.groups(kFieldSections, kSnapshotSectionsMax))) {
        const uint64_t offset = TRY(one.u64(kFieldOffset));
        const uint64_t size = TRY(one.u64(kFieldSize));
        const uint32_t checksum = TRY(one.u32(kFieldChecksum));
        index.sections.push_back({one.name(), one.version(), offset, size, checksum});
        TRY(one.finish());
    }
    TRY(in.finish());
    return index;
}

}  // namespace kumoi::hypervisor
