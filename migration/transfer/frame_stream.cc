#include "migration/transfer/frame_stream.h"

namespace kumoi::transfer {
namespace {

// What a peer says goes into logs and faults: one line of printable ASCII.
std::string readable(std::string text) {
    constexpr size_t kTextMax = 300;
    text.resize(std::min(text.size(), kTextMax));
    for (char& character : text) {
        if (character < ' ' || character > '~') {
            character = '?';
        }
    }
    return text;
}

}  // namespace

Result<Frame> FrameStream::receive() {
    while (true) {
        if (auto frame = TRY(reader_.next())) {
            if (frame->kind == FrameKind::Failure) {
                return Error::unavailable("the peer of a transfer says: {}",
                                          readable(std::move(frame->body)));
            }
            return std::move(*frame);
        }
        const size_t count = TRY(channel_.read(buffer_));
        if (count == 0) {
            return Error::unavailable("the peer has ended the transfer");
        }
        reader_.push(std::span(buffer_).first(count));
    }
}

}  // namespace kumoi::transfer
