#include "api/http/body_decoder.h"

#include <algorithm>

namespace kumoi::api {
namespace {

constexpr unsigned kSizeDigitsMax = 15;  // below 2^60
constexpr size_t kSizeLineMax = 1024;    // with extensions, which we skip
constexpr size_t kTrailerBytesMax = 8192;

int hex_value(char character) {
    if (character >= '0' && character <= '9') {
        return character - '0';
    }
    const char lowered = static_cast<char>(character | 0x20);
    return lowered >= 'a' && lowered <= 'f' ? lowered - 'a' + 10 : -1;
}

Error broken_chunk(std::string_view what) {
    return Error::invalid("The chunked request body is broken: {}", what);
}

}  // namespace

BodyDecoder BodyDecoder::counted(uint64_t length, uint64_t bytes_max) {
    BodyDecoder decoder;
    decoder.state_ = length == 0 ? State::Finished : State::Data;
    decoder.remaining_ = length;
    decoder.bytes_max_ = bytes_max;
    return decoder;
}

BodyDecoder BodyDecoder::chunked(uint64_t bytes_max) {
    BodyDecoder decoder;
    decoder.state_ = State::SizeDigits;
    decoder.chunked_ = true;
    decoder.bytes_max_ = bytes_max;
    return decoder;
}

Result<std::string_view> BodyDecoder::decode(std::string_view& input, size_t piece_max) {
    while (!input.empty() && state_ != State::Finished) {
        if (state_ != State::Data) {
            const char character = input.front();
            input.remove_prefix(1);
            TRY(step(character));
            continue;
        }
        const size_t size = static_cast<size_t>(
            std::min<uint64_t>({remaining_, input.size(), static_cast<uint64_t>(piece_max)}));
        if (bytes_max_ - bytes_decoded_ < size) {
            return Error::too_large("The request body has more than {} bytes", bytes_max_);
        }
        const std::string_view piece = input.substr(0, size);
        input.remove_prefix(size);
        remaining_ -= size;
        bytes_decoded_ += size;
        if (remaining_ == 0) {
            state_ = chunked_ ? State::DataCarriageReturn : State::Finished;
        }
        return piece;
    }
    return std::string_view();
}

Result<void> BodyDecoder::step(char character) {
    switch (state_) {
        case State::SizeDigits:
        case State::Extension:
        case State::SizeLineFeed: return step_size(character);
        case State::DataCarriageReturn:
            state_ = State::DataLineFeed;
            return character == '\r' ? Result<void>() : broken_chunk("no CR LF after the data");
        case State::DataLineFeed:
            state_ = State::SizeDigits;
            digit_count_ = 0;
            overhead_ = 0;
            return character == '\n' ? Result<void>() : broken_chunk("no CR LF after the data");
        default: return step_trailer(character);
    }
}

Result<void> BodyDecoder::step_size(char character) {
    if (++overhead_ > kSizeLineMax) {
        return broken_chunk("the size line is too long");
    }
    if (state_ == State::SizeLineFeed) {
        return character == '\n' ? end_size_line() : broken_chunk("the size line has a lone CR");
    }
    if (character == '\r') {
        state_ = State::SizeLineFeed;
        return digit_count_ > 0 ? Result<void>() : broken_chunk("a size is missing");
    }
    if (state_ == State::Extension) {
        const bool text = character == '\t' || (character >= 0x20 && character != 0x7f);
        return text ? Result<void>() : broken_chunk("a control byte in the size line");
    }
    if (const int value = hex_value(character); value >= 0) {
        if (++digit_count_ > kSizeDigitsMax) {
            return broken_chunk("a size is too long");
        }
        remaining_ = remaining_ * 16 + static_cast<uint64_t>(value);
        return {};
    }
    if (character == ';' && digit_count_ > 0) {
        state_ = State::Extension;
        return {};
    }
    return broken_chunk("a size is not hexadecimal");
}

Result<void> BodyDecoder::end_size_line() {
    overhead_ = 0;
    if (remaining_ == 0) {
        state_ = State::TrailerLineStart;
        return {};
    }
    if (remaining_ > bytes_max_ - bytes_decoded_) {
        return Error::too_large("The request body has more than {} bytes", bytes_max_);
    }
    state_ = State::Data;
    return {};
}

Result<void> BodyDecoder::step_trailer(char character) {
    if (++overhead_ > kTrailerBytesMax) {
        return broken_chunk("the trailers are too long");
    }
    switch (state_) {
        case State::TrailerLineStart:
            state_ = character == '\r' ? State::LastLineFeed : State::TrailerLine;
            return character == '\n' ? broken_chunk("a line ends without CR") : Result<void>();
        case State::TrailerLine:
            if (character == '\r') {
                state_ = State::TrailerLineFeed;
            }
            return character == '\n' ? broken_chunk("a line ends without CR") : Result<void>();
        case State::TrailerLineFeed:
            state_ = State::TrailerLineStart;
            return character == '\n' ? Result<void>() : broken_chunk("a trailer has a lone CR");
        default:  // LastLineFeed
            state_ = State::Finished;
            return character == '\n' ? Result<void>() : broken_chunk("no CR LF at the end");
    }
}

}  // namespace kumoi::api
