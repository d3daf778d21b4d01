// Integers in byte buffers, little-endian, at any alignment. The caller keeps `at` inside. Pure
// functions; the one place that relies on the hosts we run on being little-endian themselves.
#pragma once

#include <bit>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>

namespace kumoi {

static_assert(std::endian::native == std::endian::little);

template <class T>
    requires std::is_integral_v<T>
void store_little_endian(std::span<std::byte> bytes, size_t at, T value) {
    std::memcpy(bytes.data() + at, &value, sizeof value);
}

template <class T>
    requires std::is_integral_v<T>
T load_little_endian(std::span<const std::byte> bytes, size_t at) {
    T value{};
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
}

}  // namespace kumoi
