#include "base/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>

namespace kumoi {
namespace {

constexpr std::string_view kPasswordPrefix = "$scrypt$";

const EVP_MD* algorithm(DigestKind kind) {
    switch (kind) {
        case DigestKind::Md5: return EVP_md5();
        case DigestKind::Sha1: return EVP_sha1();
        case DigestKind::Sha224: return EVP_sha224();
        case DigestKind::Sha256: return EVP_sha256();
        case DigestKind::Sha512: return EVP_sha512();
    }
    return EVP_sha256();
}

std::string scrypt(std::string_view password, std::string_view salt) {
    std::array<unsigned char, 32> key{};
    const int outcome = EVP_PBE_scrypt(
        password.data(), password.size(), reinterpret_cast<const unsigned char*>(salt.data()),
        salt.size(), 1 << 14, 8, 1, 64u << 20, key.data(), key.size());
    KUMOI_ASSERT(outcome == 1);
    return {reinterpret_cast<const char*>(key.data()), key.size()};
}

}  // namespace

struct Digest::State {
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() { EVP_MD_CTX_free(context); }
};

Digest::Digest(DigestKind kind) : state_(std::make_unique<State>()) {
    KUMOI_ASSERT(EVP_DigestInit_ex(state_->context, algorithm(kind), nullptr) == 1);
}

Digest::~Digest() = default;
Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;

void Digest::update(std::span<const std::byte> bytes) {
    KUMOI_ASSERT(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

std::string Digest::finish() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> value{};
    unsigned size = 0;
    KUMOI_ASSERT(EVP_DigestFinal_ex(state_->context, value.data(), &size) == 1);
    return {reinterpret_cast<const char*>(value.data()), size};
}

std::string Digest::finish_hex() {
    return to_hex(finish());
}

std::string digest_hex(DigestKind kind, std::string_view data) {
    Digest digest(kind);
    digest.update(data);
    return digest.finish_hex();
}

std::string hmac_sha256(std::string_view key, std::string_view data) {
    std::array<unsigned char, 32> value{};
    unsigned size = value.size();
    const auto* result =
        HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
             reinterpret_cast<const unsigned char*>(data.data()), data.size(), value.data(), &size);
    KUMOI_ASSERT(result != nullptr);
    return {reinterpret_cast<const char*>(value.data()), size};
}

bool equal_constant_time(std::string_view left, std::string_view right) {
    return left.size() == right.size() &&
           CRYPTO_memcmp(left.data(), right.data(), left.size()) == 0;
}

std::string password_hash(std::string_view password, std::string_view salt16) {
    return fmt::format("{}{}${}", kPasswordPrefix, base64_encode(salt16),
                       base64_encode(scrypt(password, salt16)));
}

bool password_matches(std::string_view password, std::string_view hash) {
    if (!hash.starts_with(kPasswordPrefix)) {
        return false;
    }
    const std::string_view rest = hash.substr(kPasswordPrefix.size());
    const size_t dollar = rest.find('$');
    if (dollar == std::string_view::npos) {
        return false;
    }
    const auto salt = base64_decode(rest.substr(0, dollar));
    const auto key = base64_decode(rest.substr(dollar + 1));
    return salt && key && equal_constant_time(scrypt(password, *salt), *key);
}

std::string secret_text(Random& random, size_t byte_count) {
    std::string bytes(byte_count, '\0');
    random.fill(std::as_writable_bytes(std::span(bytes)));
    return "k" + base64url_encode(bytes);
}
}  // namespace kumoi
