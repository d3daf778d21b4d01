#include "base/encoding.h"

#include <algorithm>
#include <cstdint>

namespace kumoi {
namespace {

constexpr std::string_view kStandard =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kUrlSafe =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

std::string encode(std::string_view bytes, std::string_view alphabet, bool padded) {
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (size_t index = 0; index < bytes.size(); index += 3) {
        const size_t left = std::min<size_t>(3, bytes.size() - index);
        uint32_t group = 0;
        for (size_t byte = 0; byte < 3; ++byte) {
            group <<= 8;
            if (byte < left) {
                group |= static_cast<unsigned char>(bytes[index + byte]);
            }
        }
        for (size_t digit = 0; digit < 4; ++digit) {
            if (digit <= left) {
                out.push_back(alphabet[(group >> (18 - 6 * digit)) & 63]);
            } else if (padded) {
                out.push_back('=');
            }
        }
    }
    return out;
}

}  // namespace

std::string to_hex(std::string_view bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string out;
    out.reserve(bytes.size() * 2);
    for (const char character : bytes) {
        const auto byte = static_cast<unsigned char>(character);
        out.push_back(kDigits[byte >> 4]);
        out.push_back(kDigits[byte & 15]);
    }
    return out;
}

std::string base64_encode(std::string_view bytes) {
    return encode(bytes, kStandard, true);
}

std::string base64url_encode(std::string_view bytes) {
    return encode(bytes, kUrlSafe, false);
}

std::optional<std::string> base64_decode(std::string_view text) {
    std::string out;
    out.reserve(text.size() / 4 * 3);
    uint32_t group = 0;
    size_t digits = 0;
    size_t padding = 0;
    for (const char character : text) {
        if (character == '\n' || character == '\r' || character == ' ' || character == '\t') {
            continue;
        }
        if (character == '=') {
            ++padding;
            continue;
        }
        const size_t value = kStandard.find(character);
        if (value == std::string_view::npos || padding > 0) {
            return std::nullopt;
        }
        group = (group << 6) | static_cast<uint32_t>(value);
        if (++digits % 4 == 0) {
            out.push_back(static_cast<char>(group >> 16));
            out.push_back(static_cast<char>(group >> 8));
            out.push_back(static_cast<char>(group));
            group = 0;
        }
    }
    const size_t rest = digits % 4;
    if (rest == 1 || padding != (rest == 0 ? 0 : 4 - rest)) {
        return std::nullopt;
    }
    if (rest >= 2) {
        out.push_back(static_cast<char>(group >> (rest == 2 ? 4 : 10)));
    }
    if (rest == 3) {
        out.push_back(static_cast<char>(group >> 2));
    }
    return out;
}

}  // namespace kumoi
