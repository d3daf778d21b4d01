// Undoes the framing of a request body (RFC 9112 §6, §7.1): a counted number of bytes, or chunks.
// Pure: bytes in, bytes out. Trailer fields are checked for size and dropped. Used by the
// connection for bodies in memory and by the stream session for large ones.
//
//     while (!decoder.finished() && !input.empty()) {
//         auto piece = TRY(decoder.decode(input));   // advances input, returns a view into it
//         body += piece;
//     }
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace kumoi::api {

class BodyDecoder {
public:
    static BodyDecoder none() { return counted(0, 0); }
    // Errors TooLarge from decode() once more than `bytes_max` body bytes were seen.
    static BodyDecoder counted(uint64_t length, uint64_t bytes_max);
    static BodyDecoder chunked(uint64_t bytes_max);

    // Takes what it can from the front of `input` and returns the next piece of the body, at most
    // `piece_max` bytes; empty when it needs more input (then input is empty) or has finished.
    Result<std::string_view> decode(std::string_view& input, size_t piece_max = SIZE_MAX);
    bool finished() const { return state_ == State::Finished; }
    uint64_t bytes_decoded() const { return bytes_decoded_; }

private:
    enum class State {
        Data,
        SizeDigits,
        Extension,
        SizeLineFeed,
        DataCarriageReturn,
        DataLineFeed,
        TrailerLineStart,
        TrailerLine,
        TrailerLineFeed,
        LastLineFeed,
        Finished,
    };
    Result<void> step(char character);
    Result<void> step_size(char character);
    Result<void> step_trailer(char character);
    Result<void> end_size_line();

    State state_ = State::Finished;
    bool chunked_ = false;
    uint64_t remaining_ = 0;  // of the body or of this chunk
    uint64_t bytes_max_ = 0;
    uint64_t bytes_decoded_ = 0;
    unsigned digit_count_ = 0;
    size_t overhead_ = 0;  // bytes of this size line, or of all trailers
};

}  // namespace kumoi::api
