// The frames of a folder's transfer (docs/reference/disk-transfer.md): eight bytes of head (kind,
// three zeros, length of the body, big endian) and a body. Bytes from a peer are hostile: lengths
// are bounded before anything is kept, and every body is read by a function of this file. Values;
// no I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace kumoi::transfer {

constexpr size_t kBlockSize = 256u << 10;  // what is sent, hashed and left out as one
constexpr size_t kDataBodyMax = kBlockSize + 8;
constexpr size_t kManifestMax = 256u << 10;
constexpr size_t kRequestBodyMax = 64;  // of anything a client sends
constexpr size_t kDigestSize = 32;

enum class FrameKind : uint8_t {
    Hello = 1,     // client: what protocol it speaks
    Manifest = 2,  // server: the files
    Read = 3,      // client: one file from an offset on
    Data = 4,      // server: a block that is not all zeros
    End = 5,       // server: the file's digest
    Done = 6,      // client: all is here and on disk; server: understood
    Failure = 7,   // server: why it cannot go on
};

struct Frame {
    FrameKind kind = FrameKind::Hello;
    std::string body;
};

struct ReadRequest {
    uint32_t file = 0;
    uint64_t offset = 0;  // a multiple of kBlockSize
};
struct DataView {
    uint64_t offset = 0;
    std::span<const std::byte> bytes;  // into the frame
};
struct FileEnd {
    uint32_t file = 0;
    uint64_t size = 0;
    std::string digest;  // raw
};

std::string encode(FrameKind kind, std::string_view body);
std::string hello_body();
std::string read_body(const ReadRequest& request);
std::string data_body(uint64_t offset, std::span<const std::byte> bytes);
std::string end_body(const FileEnd& end);

// Corrupt when the body is not what the kind says.
Result<void> check_hello(const Frame& frame);  // Unsupported: another version
Result<ReadRequest> parse_read(const Frame& frame);
Result<DataView> parse_data(const Frame& frame);  // the frame must outlive the view
Result<FileEnd> parse_end(const Frame& frame);

// Cuts frames out of a stream. After an error the stream is of no use any more.
class FrameReader {
public:
    explicit FrameReader(size_t body_max) : body_max_(body_max) {}
    void push(std::span<const std::byte> bytes) {
        buffer_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    // Nothing: more bytes are needed.
    Result<std::optional<Frame>> next();

private:
    const size_t body_max_;
    std::string buffer_;
    size_t taken_ = 0;
};

}  // namespace kumoi::transfer
