// Whole frames over a SecureChannel. One thread.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "migration/transfer/frame.h"
#include "migration/transfer/secure_channel.h"

namespace kumoi::transfer {

class FrameStream {
public:
    // body_max: of what the peer may send.
    FrameStream(SecureChannel& channel, size_t body_max)
        : channel_(channel), reader_(body_max), buffer_(64u << 10) {}

    Result<void> send(FrameKind kind, std::string_view body = {}) {
        return channel_.write(encode(kind, body));
    }
    // Unavailable when the peer ended the stream. A Failure frame of the peer becomes an error.
    Result<Frame> receive();

private:
    SecureChannel& channel_;
    FrameReader reader_;
    std::vector<std::byte> buffer_;
};

}  // namespace kumoi::transfer
