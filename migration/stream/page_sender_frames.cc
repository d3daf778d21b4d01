// PageSender: how pages become frames: packed, at the pace that is allowed.
#include <zstd.h>

#include <chrono>
#include <cstring>

#include "migration/stream/page_sender.h"

namespace kumoi::migration {

namespace {

constexpr int kZstdLevel = 1;

}  // namespace

Result<void> PageSender::send_frame(Worker& worker, uint32_t round) {
    FrameHeader header;
    header.runs = static_cast<uint16_t>(worker.runs.size());
    header.round = round;
    header.payload = data_pages(worker.runs) * static_cast<uint32_t>(kPage);
    encode_runs(worker.runs, worker.runs_bytes);
    return put(worker, header);
}

Result<void> PageSender::send_deltas(Worker& worker, uint32_t round) {
    FrameHeader header;
    header.type = FrameType::Delta;
    header.runs = static_cast<uint16_t>(worker.delta_runs.size());
    header.round = round;
    header.payload = static_cast<uint32_t>(worker.deltas.size());
    encode_delta_runs(worker.delta_runs, worker.runs_bytes);
    worker.vectors.resize(2);
    worker.vectors.push_back({worker.deltas.data(), worker.deltas.size()});
    return put(worker, header);
}

// What the worker's vectors hold from the third on.
Result<void> PageSender::put(Worker& worker, FrameHeader header) {
    CompressionSample sample;
    if (header.payload != 0 && packs()) {
        sample = TRY(compress(worker, header));
    }
    auto bytes = header.encode();
    worker.vectors[0] = {bytes.data(), bytes.size()};
    worker.vectors[1] = {worker.runs_bytes.data(), worker.runs_bytes.size()};
    const uint64_t size = bytes.size() + worker.runs_bytes.size() + header.payload;
    const int64_t begun = clock_.monotonic_ns();
    pace(size);
    TRY(worker.stream->send(std::span(worker.vectors)));
    const LinkSample link{size, clock_.monotonic_ns() - begun};
    ++worker.frames;
    frames_.fetch_add(1, std::memory_order_relaxed);
    packed_frames_.fetch_add(header.compressed ? 1 : 0, std::memory_order_relaxed);
    bytes_.fetch_add(size, std::memory_order_relaxed);
    link_bytes_.fetch_add(link.bytes, std::memory_order_relaxed);
    link_ns_.fetch_add(link.ns, std::memory_order_relaxed);
    if (options_.compress) {
        const std::lock_guard lock(mutex_);
        pack_gauge_.turn(sample, link);
    }
    return {};
}

bool PageSender::packs() {
    if (!options_.compress) {
        return false;
    }
    const std::lock_guard lock(mutex_);
    return pack_gauge_.on() || !options_.judge;
}

// Of a copy: the guest may write to the pages meanwhile, and zstd must not see that.
Result<CompressionSample> PageSender::compress(Worker& worker, FrameHeader& header) {
    const int64_t begun = clock_.monotonic_ns();
    CompressionSample sample{.in = header.payload, .out = header.payload};
    worker.copy.resize(header.payload);
    size_t at = 0;
    for (const iovec& vector : std::span(worker.vectors).subspan(2)) {
        std::memcpy(worker.copy.data() + at, vector.iov_base, vector.iov_len);
        at += vector.iov_len;
    }
    worker.packed.resize(ZSTD_compressBound(header.payload));
    const size_t length = ZSTD_compress(worker.packed.data(), worker.packed.size(),
                                        worker.copy.data(), worker.copy.size(), kZstdLevel);
    if (ZSTD_isError(length) != 0) {
        return Error::internal("zstd: {}", ZSTD_getErrorName(length));
    }
    if (length < header.payload) {
        header.compressed = true;
        header.payload = static_cast<uint32_t>(length);
        worker.vectors.resize(2);
        worker.vectors.push_back({worker.packed.data(), length});
        sample.out = length;
    }
    sample.cpu_ns = clock_.monotonic_ns() - begun;
    return sample;
}

void PageSender::pace(uint64_t bytes) {
    const int64_t wait = pacer_.book(bytes, clock_.monotonic_ns());
    if (wait <= 0) {
        return;
    }
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::nanoseconds(wait), [this] { return stopped_.load(); });
}

}  // namespace kumoi::migration
