#include "hypervisor/block/qcow2/compression.h"

#include <zlib.h>
#include <zstd.h>

#include <memory>

namespace kumoi::hypervisor::qcow2 {

namespace {

constexpr int kWindowBits = -12;  // raw deflate, as every qcow2 program writes it
constexpr int kMemoryLevel = 9;

bool inflate_cluster(std::span<const std::byte> packed, std::span<std::byte> cluster) {
    z_stream stream{};
    if (inflateInit2(&stream, kWindowBits) != Z_OK) {
        return false;
    }
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = reinterpret_cast<Bytef*>(cluster.data());
    stream.avail_out = static_cast<uInt>(cluster.size());
    const int status = inflate(&stream, Z_FINISH);
    // A full buffer is the end, even where the stream's own end mark follows.
    const bool good = stream.avail_out == 0 && (status == Z_STREAM_END || status == Z_BUF_ERROR);
    inflateEnd(&stream);
    return good;
}

std::vector<std::byte> deflate_cluster(std::span<const std::byte> cluster) {
    z_stream stream{};
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kWindowBits, kMemoryLevel,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        return {};
    }
    std::vector<std::byte> packed(cluster.size() - 1);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(cluster.data()));
    stream.avail_in = static_cast<uInt>(cluster.size());
    stream.next_out = reinterpret_cast<Bytef*>(packed.data());
    stream.avail_out = static_cast<uInt>(packed.size());
    const int status = deflate(&stream, Z_FINISH);
    packed.resize(status == Z_STREAM_END ? packed.size() - stream.avail_out : 0);
    deflateEnd(&stream);
    return packed;
}

struct FreeContext {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

bool unpack_zstd(std::span<const std::byte> packed, std::span<std::byte> cluster) {
    thread_local const std::unique_ptr<ZSTD_DCtx, FreeContext> context(ZSTD_createDCtx());
    if (!context) {
        return false;
    }
    ZSTD_DCtx_reset(context.get(), ZSTD_reset_session_only);
    ZSTD_inBuffer in{packed.data(), packed.size(), 0};
    ZSTD_outBuffer out{cluster.data(), cluster.size(), 0};
    // The frame's end may be followed by padding: stop when the cluster is full.
    while (out.pos < out.size) {
        const size_t before = in.pos + out.pos;
        const size_t left = ZSTD_decompressStream(context.get(), &out, &in);
        if (ZSTD_isError(left) || (left == 0 && out.pos < out.size && in.pos == in.size) ||
            in.pos + out.pos == before) {
            return false;
        }
    }
    return true;
}

std::vector<std::byte> pack_zstd(std::span<const std::byte> cluster) {
    std::vector<std::byte> packed(ZSTD_compressBound(cluster.size()));
    const size_t size =
        ZSTD_compress(packed.data(), packed.size(), cluster.data(), cluster.size(), 3);
    packed.resize(ZSTD_isError(size) || size >= cluster.size() ? 0 : size);
    return packed;
}

}  // namespace

bool decompress(Compression method, std::span<const std::byte> packed,
                std::span<std::byte> cluster) {
    return method == Compression::Zstd ? unpack_zstd(packed, cluster)
                                       : inflate_cluster(packed, cluster);
}

std::vector<std::byte> compress(Compression method, std::span<const std::byte> cluster) {
    return method == Compression::Zstd ? pack_zstd(cluster) : deflate_cluster(cluster);
}

}  // namespace kumoi::hypervisor::qcow2
