#include "base/small_digest.h"

#include <sha1.h>
#include <sha2.h>

#include <array>
#include <cstdint>

namespace kumoi {

namespace {

template <size_t kSize>
std::string text_of(const std::array<uint8_t, kSize>& value) {
    return {reinterpret_cast<const char*>(value.data()), value.size()};
}

const uint8_t* bytes_of(std::string_view data) {
    return reinterpret_cast<const uint8_t*>(data.data());
}

}  // namespace

std::string sha1_of(std::string_view data) {
    SHA1_CTX context;
    std::array<uint8_t, SHA1_DIGEST_LENGTH> value{};
    SHA1Init(&context);
    SHA1Update(&context, bytes_of(data), data.size());
    SHA1Final(value.data(), &context);
    return text_of(value);
}

std::string sha256_of(std::string_view data) {
    SHA2_CTX context;
    std::array<uint8_t, SHA256_DIGEST_LENGTH> value{};
    SHA256Init(&context);
    SHA256Update(&context, bytes_of(data), data.size());
    SHA256Final(value.data(), &context);
    return text_of(value);
}

}  // namespace kumoi
