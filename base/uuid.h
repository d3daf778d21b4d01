// Uuid: a 128-bit identifier (RFC 9562), a plain comparable value.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/random.h"

namespace kumoi {

class Uuid {
public:
    Uuid() = default;                      // all zero
    static Uuid generate(Random& random);  // version 4
    // Accepts 8-4-4-4-12 or 32 hexadecimal digits, any case.
    static std::optional<Uuid> parse(std::string_view text);

    std::string text() const;  // 8-4-4-4-12, lower case
    std::string hex() const;   // 32 digits, as Keystone writes ids
    bool is_nil() const { return *this == Uuid(); }
    const std::array<uint8_t, 16>& bytes() const { return bytes_; }
    auto operator<=>(const Uuid&) const = default;

private:
    std::array<uint8_t, 16> bytes_{};
};

}  // namespace kumoi

template <>
struct std::hash<kumoi::Uuid> {
    size_t operator()(const kumoi::Uuid& uuid) const noexcept;
};
