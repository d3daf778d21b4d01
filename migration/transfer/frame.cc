#include "migration/transfer/frame.h"

#include <endian.h>

#include <cstring>

namespace kumoi::transfer {
namespace {

constexpr size_t kHeadSize = 8;
constexpr std::string_view kMagic = "kumoi-transfer";
constexpr uint32_t kVersion = 1;

void append_u32(std::string& out, uint32_t value) {
    const uint32_t big = htobe32(value);
    out.append(reinterpret_cast<const char*>(&big), sizeof(big));
}

void append_u64(std::string& out, uint64_t value) {
    const uint64_t big = htobe64(value);
    out.append(reinterpret_cast<const char*>(&big), sizeof(big));
}

// The caller has checked that there are so many bytes.
uint32_t u32_at(std::string_view bytes, size_t offset) {
    uint32_t value = 0;
    std::memcpy(&value, bytes.data() + offset, sizeof(value));
    return be32toh(value);
}

uint64_t u64_at(std::string_view bytes, size_t offset) {
    uint64_t value = 0;
    std::memcpy(&value, bytes.data() + offset, sizeof(value));
    return be64toh(value);
}

Error wrong_body(const Frame& frame) {
    return Error::corrupt("a transfer's frame of kind {} has a body of {} bytes",
                          static_cast<int>(frame.kind), frame.body.size());
}

}  // namespace

std::string encode(FrameKind kind, std::string_view body) {
    std::string frame;
    frame.reserve(kHeadSize + body.size());
    frame.push_back(static_cast<char>(kind));
    frame.append(3, '\0');
    append_u32(frame, static_cast<uint32_t>(body.size()));
    frame.append(body);
    return frame;
}

std::string hello_body() {
    std::string body(kMagic);
    append_u32(body, kVersion);
    return body;
}

std::string read_body(const ReadRequest& request) {
    std::string body;
    append_u32(body, request.file);
    append_u64(body, request.offset);
    return body;
}

std::string data_body(uint64_t offset, std::span<const std::byte> bytes) {
    std::string body;
    body.reserve(sizeof(offset) + bytes.size());
    append_u64(body, offset);
    body.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return body;
}

std::string end_body(const FileEnd& end) {
    std::string body;
    append_u32(body, end.file);
    append_u64(body, end.size);
    return body + end.digest;
}

Result<void> check_hello(const Frame& frame) {
    if (frame.kind != FrameKind::Hello || frame.body.size() != kMagic.size() + 4 ||
        !frame.body.starts_with(kMagic)) {
        return Error::corrupt("the peer does not speak the transfer protocol");
    }
    const uint32_t version = u32_at(frame.body, kMagic.size());
    if (version != kVersion) {
        return Error::unsupported("the peer speaks version {} of the transfer protocol, we {}",
                                  version, kVersion)
            .with_hint("Run the same release of kumoi on both hosts.");
    }
    return {};
}

Result<ReadRequest> parse_read(const Frame& frame) {
    if (frame.kind != FrameKind::Read || frame.body.size() != 12) {
        return wrong_body(frame);
    }
    ReadRequest request{u32_at(frame.body, 0), u64_at(frame.body, 4)};
    if (request.offset % kBlockSize != 0) {
        return Error::corrupt("a file is asked for from byte {} on, which begins no block",
                              request.offset);
    }
    return request;
}

Result<DataView> parse_data(const Frame& frame) {
    if (frame.kind != FrameKind::Data || frame.body.size() <= 8 ||
        frame.body.size() > kDataBodyMax) {
        return wrong_body(frame);
    }
    DataView data;
    data.offset = u64_at(frame.body, 0);
    data.bytes = std::as_bytes(std::span(frame.body).subspan(8));
    if (data.offset % kBlockSize != 0) {
        return Error::corrupt("data for byte {} came, which begins no block", data.offset);
    }
    return data;
}

Result<FileEnd> parse_end(const Frame& frame) {
    if (frame.kind != FrameKind::End || frame.body.size() != 12 + kDigestSize) {
        return wrong_body(frame);
    }
    return FileEnd{u32_at(frame.body, 0), u64_at(frame.body, 4), frame.body.substr(12)};
}

Result<std::optional<Frame>> FrameReader::next() {
    const std::string_view left = std::string_view(buffer_).substr(taken_);
    if (left.size() < kHeadSize) {
        return std::optional<Frame>();
    }
    const auto kind = static_cast<uint8_t>(left[0]);
    const size_t size = u32_at(left, 4);
    if (kind < static_cast<uint8_t>(FrameKind::Hello) ||
        kind > static_cast<uint8_t>(FrameKind::Failure) || left[1] != 0 || left[2] != 0 ||
        left[3] != 0) {
        return Error::corrupt("the peer sent something that is no frame of a transfer");
    }
    if (size > body_max_) {
        return Error::too_large("a transfer's frame announces {} bytes, {} are allowed", size,
                                body_max_);
    }
    if (left.size() < kHeadSize + size) {
        return std::optional<Frame>();
    }
    Frame frame{static_cast<FrameKind>(kind), std::string(left.substr(kHeadSize, size))};
    taken_ += kHeadSize + size;
    if (taken_ == buffer_.size() || taken_ > body_max_) {
        buffer_.erase(0, taken_);
        taken_ = 0;
    }
    return std::optional(std::move(frame));
}

}  // namespace kumoi::transfer
