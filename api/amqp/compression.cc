#include <bzlib.h>
#include <zlib.h>

#include <array>
#include <limits>

#include "api/amqp/envelope.h"

namespace kumoi::amqp {
namespace {

constexpr size_t kChunkBytes = 64 * 1024;
constexpr std::string_view kGzip = "application/x-gzip";
constexpr std::string_view kBzip2 = "application/x-bz2";

Error too_large(size_t size_max) {
    return Error::too_large("a compressed message unpacks to more than {} bytes", size_max);
}

Error damaged(std::string_view kind) {
    return Error::corrupt("a message said to be {} cannot be unpacked", kind);
}

Result<std::string> inflate_all(std::string_view body, size_t size_max) {
    z_stream stream{};
    // 32: takes zlib's and gzip's header alike; kombu's "gzip" is zlib's.
    if (::inflateInit2(&stream, MAX_WBITS + 32) != Z_OK) {
        return Error::exhausted("no memory to unpack a message");
    }
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(body.data()));
    stream.avail_in = static_cast<uInt>(body.size());
    std::string out;
    std::array<char, kChunkBytes> chunk;
    int code = Z_OK;
    while (code == Z_OK && out.size() <= size_max) {
        stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
        stream.avail_out = static_cast<uInt>(chunk.size());
        code = ::inflate(&stream, Z_NO_FLUSH);
        out.append(chunk.data(), chunk.size() - stream.avail_out);
    }
    ::inflateEnd(&stream);
    if (out.size() > size_max) {
        return too_large(size_max);
    }
    return code == Z_STREAM_END ? Result<std::string>(std::move(out)) : damaged(kGzip);
}

Result<std::string> bunzip2_all(std::string_view body, size_t size_max) {
    bz_stream stream{};
    if (::BZ2_bzDecompressInit(&stream, 0, 0) != BZ_OK) {
        return Error::exhausted("no memory to unpack a message");
    }
    stream.next_in = const_cast<char*>(body.data());
    stream.avail_in = static_cast<unsigned>(body.size());
    std::string out;
    std::array<char, kChunkBytes> chunk;
    int code = BZ_OK;
    bool moved = true;
    while (code == BZ_OK && moved && out.size() <= size_max) {
        stream.next_out = chunk.data();
        stream.avail_out = static_cast<unsigned>(chunk.size());
        const unsigned before = stream.avail_in;
        code = ::BZ2_bzDecompress(&stream);
        // bzip2 answers BZ_OK for ever when the input ends too early.
        moved = stream.avail_in != before || stream.avail_out != chunk.size();
        out.append(chunk.data(), chunk.size() - stream.avail_out);
    }
    ::BZ2_bzDecompressEnd(&stream);
    if (out.size() > size_max) {
        return too_large(size_max);
    }
    return code == BZ_STREAM_END ? Result<std::string>(std::move(out)) : damaged(kBzip2);
}

}  // namespace

Result<std::string> decompress(std::string_view body, std::string_view compression,
                               size_t size_max) {
    if (body.size() > std::min<size_t>(size_max, std::numeric_limits<unsigned>::max())) {
        return too_large(size_max);
    }
    if (compression.empty()) {
        return std::string(body);
    }
    if (compression == kGzip || compression == "application/gzip") {
        return inflate_all(body, size_max);
    }
    if (compression == kBzip2 || compression == "application/bzip2") {
        return bunzip2_all(body, size_max);
    }
    return Error::unsupported("a message is compressed as \"{}\"", compression)
        .with_hint("Set kombu_compression of its sender to gzip or bz2, or leave it unset.");
}

Result<std::string> compress(std::string_view body, std::string_view method, std::string& header) {
    if (body.size() > kMessageBytesMax) {
        return too_large(kMessageBytesMax);
    }
    if (method == "gzip") {
        uLongf size = ::compressBound(static_cast<uLong>(body.size()));
        std::string out(size, '\0');
        if (::compress(reinterpret_cast<Bytef*>(out.data()), &size,
                       reinterpret_cast<const Bytef*>(body.data()),
                       static_cast<uLong>(body.size())) != Z_OK) {
            return Error::exhausted("no memory to compress a message of {} bytes", body.size());
        }
        out.resize(size);
        header = kGzip;
        return out;
    }
    if (method == "bz2") {
        auto size = static_cast<unsigned>(body.size() + body.size() / 100 + 601);
        std::string out(size, '\0');
        if (::BZ2_bzBuffToBuffCompress(out.data(), &size, const_cast<char*>(body.data()),
                                       static_cast<unsigned>(body.size()), 9, 0, 0) != BZ_OK) {
            return Error::exhausted("no memory to compress a message of {} bytes", body.size());
        }
        out.resize(size);
        header = kBzip2;
        return out;
    }
    return Error::invalid("kombu_compression is \"{}\"; gzip and bz2 are offered", method);
}

}  // namespace kumoi::amqp
