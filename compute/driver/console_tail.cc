#include "compute/driver/console_tail.h"

#include <fcntl.h>

#include <algorithm>
#include <span>

#include "base/fd.h"
#include "base/file.h"

namespace kumoi::compute {
namespace {

// The last `size_max` bytes of a file; nothing when it is absent.
Result<std::string> file_tail(const std::string& path, uint64_t size_max) {
    if (size_max == 0 || !path_exists(path)) {
        return std::string();
    }
    const UniqueFd file = TRY(open_file(path, O_RDONLY));
    const uint64_t size = TRY(file_size(path));
    const uint64_t start = size > size_max ? size - size_max : 0;
    std::string text(size - start, '\0');
    const size_t count =
        TRY(pread_some(file.get(), std::as_writable_bytes(std::span(text)), start));
    text.resize(count);
    return text;
}

// Length of the UTF-8 sequence that starts at `at` (RFC 3629 §4); 0: none does.
size_t utf8_length(std::string_view text, size_t at) {
    const auto byte = [&](size_t index) {
        return index < text.size() ? static_cast<unsigned char>(text[index]) : 0u;
    };
    const auto follows = [&](size_t index) { return (byte(index) & 0xc0u) == 0x80u; };
    const unsigned first = byte(at);
    if (first < 0x80) {
        return 1;
    }
    if (first >= 0xc2 && first <= 0xdf) {
        return follows(at + 1) ? 2 : 0;
    }
    const unsigned second = byte(at + 1);
    if (first >= 0xe0 && first <= 0xef) {
        const bool overlong = first == 0xe0 && second < 0xa0;
        const bool surrogate = first == 0xed && second > 0x9f;
        return follows(at + 1) && follows(at + 2) && !overlong && !surrogate ? 3 : 0;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        const bool overlong = first == 0xf0 && second < 0x90;
        const bool beyond = first == 0xf4 && second > 0x8f;
        const bool whole = follows(at + 1) && follows(at + 2) && follows(at + 3);
        return whole && !overlong && !beyond ? 4 : 0;
    }
    return 0;
}

}  // namespace

Result<std::string> console_tail(const InstanceFolder& folder, int64_t lines, uint64_t size_max) {
    std::string text = TRY(file_tail(folder.console_log(), size_max));
    if (text.size() < size_max) {  // the file was begun anew: the rest is in the one before
        text = TRY(file_tail(folder.console_log_before(), size_max - text.size())) + text;
    }
    return to_utf8(last_lines(std::move(text), lines));
}

std::string to_utf8(std::string_view bytes) {
    std::string text;
    text.reserve(bytes.size());
    size_t at = 0;
    while (at < bytes.size()) {
        const size_t length = utf8_length(bytes, at);
        if (length == 0) {
            text += '?';
            ++at;
            continue;
        }
        if (bytes[at] != '\0') {
            text += bytes.substr(at, length);
        }
        at += length;
    }
    return text;
}

std::string last_lines(std::string text, int64_t lines) {
    if (lines < 0) {
        return text;
    }
    size_t start = text.size();
    for (bool first = true; lines > 0; --lines, first = false) {
        if (start == 0) {
            return text;
        }
        // Where the line before the one that was found begins.
        const size_t newline = first       ? text.rfind('\n')
                               : start < 2 ? std::string::npos
                                           : text.rfind('\n', start - 2);
        start = newline == std::string::npos ? 0 : newline + 1;
    }
    return text.substr(start);
}

}  // namespace kumoi::compute
