#include "migration/stream/page_frame.h"

#include <cstring>

#include "base/crc32c.h"
#include "base/little_endian.h"

namespace kumoi::migration {

namespace {

constexpr uint32_t kMagic = 0x3144'4d4b;  // "KMD1"
constexpr uint16_t kCompressed = 1;
constexpr uint16_t kLast = 2;

constexpr size_t kCheckAt = FrameHeader::kSize - sizeof(uint32_t);

}  // namespace

std::array<std::byte, FrameHeader::kSize> FrameHeader::encode() const {
    std::array<std::byte, kSize> bytes{};
    store_little_endian(std::span(bytes), 0, kMagic);
    store_little_endian(std::span(bytes), 4, static_cast<uint16_t>(type));
    store_little_endian(std::span(bytes), 6,
                        static_cast<uint16_t>((compressed ? kCompressed : 0) | (last ? kLast : 0)));
    store_little_endian(std::span(bytes), 8, runs);
    store_little_endian(std::span(bytes), 12, round);
    store_little_endian(std::span(bytes), 16, payload);
    store_little_endian(std::span(bytes), 20, number);
    store_little_endian(std::span(bytes), kCheckAt, crc32c(std::span(bytes).first(kCheckAt)));
    return bytes;
}

Result<FrameHeader> FrameHeader::decode(std::span<const std::byte> bytes) {
    if (bytes.size() != kSize || load_little_endian<uint32_t>(bytes, 0) != kMagic ||
        load_little_endian<uint32_t>(bytes, kCheckAt) != crc32c(bytes.first(kCheckAt))) {
        return Error::make(ErrorCode::Corrupt, "a data stream of the migration is out of step");
    }
    FrameHeader header;
    const auto type = load_little_endian<uint16_t>(bytes, 4);
    const auto flags = load_little_endian<uint16_t>(bytes, 6);
    header.runs = load_little_endian<uint16_t>(bytes, 8);
    header.round = load_little_endian<uint32_t>(bytes, 12);
    header.payload = load_little_endian<uint32_t>(bytes, 16);
    header.number = load_little_endian<uint64_t>(bytes, 20);
    if (type < static_cast<uint16_t>(FrameType::Pages) ||
        type > static_cast<uint16_t>(FrameType::Delta)) {
        return Error::make(ErrorCode::Corrupt, "a frame of unknown type {} in a data stream", type);
    }
    header.type = static_cast<FrameType>(type);
    header.compressed = (flags & kCompressed) != 0;
    header.last = (flags & kLast) != 0;
    const bool barrier = header.type == FrameType::Barrier || header.type == FrameType::Request;
    if ((flags & ~(kCompressed | kLast)) != 0 || header.runs > kFrameRunsMax ||
        header.payload > kFramePayloadMax || (barrier && (header.runs | header.payload) != 0)) {
        return Error::make(ErrorCode::Corrupt,
                           "a frame with {} runs and {} bytes in a data stream: at most {} and {}",
                           header.runs, header.payload, kFrameRunsMax, kFramePayloadMax);
    }
    return header;
}

void encode_runs(std::span<const PageRun> runs, std::vector<std::byte>& out) {
    out.resize(runs.size() * kRunSize);
    for (size_t i = 0; i < runs.size(); ++i) {
        store_little_endian(std::span(out), i * kRunSize, runs[i].first);
        store_little_endian(std::span(out), i * kRunSize + 8, runs[i].count);
        store_little_endian(std::span(out), i * kRunSize + 12, static_cast<uint32_t>(runs[i].kind));
    }
}

Result<std::vector<PageRun>> decode_runs(std::span<const std::byte> bytes, uint64_t pages) {
    std::vector<PageRun> runs;
    uint64_t data = 0;
    for (size_t at = 0; at + kRunSize <= bytes.size(); at += kRunSize) {
        const PageRun run{load_little_endian<uint64_t>(bytes, at),
                          load_little_endian<uint32_t>(bytes, at + 8),
                          static_cast<RunKind>(load_little_endian<uint32_t>(bytes, at + 12))};
        if (run.kind != RunKind::Data && run.kind != RunKind::Zero) {
            return Error::make(ErrorCode::Corrupt, "a run of unknown kind {} in a data stream",
                               static_cast<uint32_t>(run.kind));
        }
        if (run.count == 0 || run.count > pages || run.first > pages - run.count) {
            return Error::make(ErrorCode::Corrupt, "pages {} to {} came; the guest's memory has {}",
                               run.first, run.first + run.count, pages);
        }
        data += run.kind == RunKind::Data ? run.count : 0;
        runs.push_back(run);
    }
    if (data > kFramePagesMax) {
        return Error::make(ErrorCode::Corrupt, "a frame of {} pages came, at most {} fit in one",
                           data, kFramePagesMax);
    }
    return runs;
}

void encode_delta_runs(std::span<const DeltaRun> runs, std::vector<std::byte>& out) {
    out.assign(runs.size() * kRunSize, std::byte{0});
    for (size_t i = 0; i < runs.size(); ++i) {
        store_little_endian(std::span(out), i * kRunSize, runs[i].page);
        store_little_endian(std::span(out), i * kRunSize + 8, runs[i].size);
    }
}

Result<std::vector<DeltaRun>> decode_delta_runs(std::span<const std::byte> bytes, uint64_t pages) {
    std::vector<DeltaRun> runs;
    for (size_t at = 0; at + kRunSize <= bytes.size(); at += kRunSize) {
        const DeltaRun run{load_little_endian<uint64_t>(bytes, at),
                           load_little_endian<uint32_t>(bytes, at + 8)};
        if (run.page >= pages || run.size == 0 || run.size > kDeltaMax) {
            return Error::make(ErrorCode::Corrupt,
                               "a change of {} bytes of page {} came; the guest's memory has {}",
                               run.size, run.page, pages);
        }
        runs.push_back(run);
    }
    return runs;
}

uint32_t data_pages(std::span<const PageRun> runs) {
    uint32_t pages = 0;
    for (const PageRun& run : runs) {
        pages += run.kind == RunKind::Data ? run.count : 0;
    }
    return pages;
}

}  // namespace kumoi::migration
