#include "base/uuid.h"

#include <cstring>

namespace kumoi {
namespace {

constexpr char kDigits[] = "0123456789abcdef";

std::optional<uint8_t> nibble(char character) {
    if (character >= '0' && character <= '9') {
        return static_cast<uint8_t>(character - '0');
    }
    const char lower = static_cast<char>(character | 0x20);
    if (lower >= 'a' && lower <= 'f') {
        return static_cast<uint8_t>(lower - 'a' + 10);
    }
    return std::nullopt;
}

bool is_dash_position(size_t index) {
    return index == 8 || index == 13 || index == 18 || index == 23;
}

}  // namespace

Uuid Uuid::generate(Random& random) {
    Uuid uuid;
    random.fill(std::as_writable_bytes(std::span(uuid.bytes_)));
    uuid.bytes_[6] = static_cast<uint8_t>((uuid.bytes_[6] & 0x0f) | 0x40);
    uuid.bytes_[8] = static_cast<uint8_t>((uuid.bytes_[8] & 0x3f) | 0x80);
    return uuid;
}

std::optional<Uuid> Uuid::parse(std::string_view text) {
    const bool dashed = text.size() == 36;
    if (!dashed && text.size() != 32) {
        return std::nullopt;
    }
    Uuid uuid;
    size_t digit = 0;
    for (size_t index = 0; index < text.size(); ++index) {
        if (dashed && is_dash_position(index)) {
            if (text[index] != '-') {
                return std::nullopt;
            }
            continue;
        }
        const auto value = nibble(text[index]);
        if (!value) {
            return std::nullopt;
        }
        uuid.bytes_[digit / 2] =
            static_cast<uint8_t>(uuid.bytes_[digit / 2] | (*value << (digit % 2 == 0 ? 4 : 0)));
        ++digit;
    }
    return uuid;
}

std::string Uuid::hex() const {
    std::string text;
    text.reserve(32);
    for (const uint8_t byte : bytes_) {
        text.push_back(kDigits[byte >> 4]);
        text.push_back(kDigits[byte & 15]);
    }
    return text;
}

std::string Uuid::text() const {
    std::string text = hex();
    for (const size_t position : {8, 13, 18, 23}) {
        text.insert(position, 1, '-');
    }
    return text;
}

}  // namespace kumoi

size_t std::hash<kumoi::Uuid>::operator()(const kumoi::Uuid& uuid) const noexcept {
    size_t value = 0;
    std::memcpy(&value, uuid.bytes().data(), sizeof(value));
    return value;
}
