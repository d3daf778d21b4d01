#include "sim/planetlab/line_reader.h"

#include <fcntl.h>
#include <lzma.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/fd.h"

namespace kumoi::sim {

namespace {

constexpr size_t kChunk = 64u << 10;
constexpr uint64_t kXzMemoryMax = 256u << 20;  // bytes a decoder may take
constexpr std::string_view kXzMagic{
    "\xfd"
    "7zXZ\0",
    6};

}  // namespace

struct LineReader::State {
    std::string path;
    UniqueFd file;
    bool compressed = false;
    bool ended = false;  // no more bytes from the file (plain) or the stream (xz)
    lzma_stream decoder = LZMA_STREAM_INIT;
    std::array<uint8_t, kChunk> raw{};
    std::string text;  // decoded and not yet given out, from `used`
    size_t used = 0;
    uint64_t line = 0;

    ~State() { lzma_end(&decoder); }
    Result<size_t> read_raw();
    Result<void> fill();
    Result<void> decode();
};

Result<size_t> LineReader::State::read_raw() {
    while (true) {
        const ssize_t got = ::read(file.get(), raw.data(), raw.size());
        if (got >= 0) {
            return static_cast<size_t>(got);
        }
        if (errno != EINTR) {
            return Error::make(ErrorCode::Io, "reading {}: {}", path, std::strerror(errno));
        }
    }
}

Result<void> LineReader::State::fill() {
    text.erase(0, used);
    used = 0;
    if (compressed) {
        return decode();
    }
    const size_t got = TRY(read_raw());
    ended = got == 0;
    text.append(reinterpret_cast<const char*>(raw.data()), got);
    return {};
}

Result<void> LineReader::State::decode() {
    lzma_action action = LZMA_RUN;
    if (decoder.avail_in == 0) {
        decoder.avail_in = TRY(read_raw());
        decoder.next_in = raw.data();
        action = decoder.avail_in == 0 ? LZMA_FINISH : LZMA_RUN;
    }
    std::array<uint8_t, kChunk> out;
    decoder.next_out = out.data();
    decoder.avail_out = out.size();
    const lzma_ret result = lzma_code(&decoder, action);
    text.append(reinterpret_cast<const char*>(out.data()), out.size() - decoder.avail_out);
    ended = result == LZMA_STREAM_END;
    if (result == LZMA_OK || ended) {
        return {};
    }
    return Error::make(ErrorCode::Corrupt, "{} is not a whole .xz file: {} after line {}", path,
                       result == LZMA_BUF_ERROR ? "it ends in the middle" : "its data are damaged",
                       line)
        .with_hint("fetch the file again, or check it with `xz --test`");
}

LineReader::LineReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
LineReader::LineReader(LineReader&&) noexcept = default;
LineReader& LineReader::operator=(LineReader&&) noexcept = default;
LineReader::~LineReader() = default;

Result<LineReader> LineReader::open(const std::string& path) {
    auto state = std::make_unique<State>();
    state->path = path;
    state->file = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!state->file.is_open()) {
        return Error::make(errno == ENOENT ? ErrorCode::NotFound : ErrorCode::Io,
                           "{} cannot be opened: {}", path, std::strerror(errno));
    }
    const size_t got = TRY(state->read_raw());
    const std::string_view head(reinterpret_cast<const char*>(state->raw.data()), got);
    state->compressed = head.starts_with(kXzMagic);
    if (!state->compressed) {
        state->text = head;
        return LineReader(std::move(state));
    }
    if (lzma_stream_decoder(&state->decoder, kXzMemoryMax, LZMA_CONCATENATED) != LZMA_OK) {
        return Error::make(ErrorCode::Exhausted, "no memory to read {}", path);
    }
    state->decoder.next_in = state->raw.data();
    state->decoder.avail_in = got;
    return LineReader(std::move(state));
}

Result<bool> LineReader::next(std::string& line) {
    State& state = *state_;
    size_t scanned = state.used;
    while (true) {
        const size_t end = state.text.find('\n', scanned);
        const bool whole = end != std::string::npos;
        if (whole || (state.ended && state.used < state.text.size())) {
            const size_t stop = whole ? end : state.text.size();
            line.assign(state.text, state.used, stop - state.used);
            state.used = whole ? end + 1 : stop;
            if (line.ends_with('\r')) {
                line.pop_back();
            }
            ++state.line;
            return true;
        }
        if (state.ended) {
            return false;
        }
        if (state.text.size() - state.used > kLineMax) {
            return Error::make(ErrorCode::TooLarge, "{} line {} is longer than {} bytes",
                               state.path, state.line + 1, kLineMax);
        }
        TRY(state.fill());
        scanned = 0;
    }
}

uint64_t LineReader::number() const {
    return state_->line;
}
const std::string& LineReader::path() const {
    return state_->path;
}

}  // namespace kumoi::sim
