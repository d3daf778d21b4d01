// Digests and message authentication, over OpenSSL 3: library kumoi_crypto, not part of kumoi-vmm
// (base/small_digest.h). Streaming digests hold their own state; use from one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/encoding.h"
#include "base/random.h"
#include "base/result.h"

namespace kumoi {

enum class DigestKind { Md5, Sha1, Sha224, Sha256, Sha512 };

class Digest {
public:
    explicit Digest(DigestKind kind);
    ~Digest();
    Digest(Digest&&) noexcept;
    Digest& operator=(Digest&&) noexcept;
    void update(std::span<const std::byte> bytes);
    void update(std::string_view text) { update(std::as_bytes(std::span(text))); }
    std::string finish();      // raw bytes; call once
    std::string finish_hex();  // lower case hexadecimal; call once

private:
    struct State;
    std::unique_ptr<State> state_;
};

std::string digest_hex(DigestKind kind, std::string_view data);
std::string hmac_sha256(std::string_view key, std::string_view data);  // raw 32 bytes
bool equal_constant_time(std::string_view left, std::string_view right);
// scrypt (RFC 7914), N=2^14 r=8 p=1: "$scrypt$<base64 salt>$<base64 key>".
std::string password_hash(std::string_view password, std::string_view salt16);
bool password_matches(std::string_view password, std::string_view hash);

// base64url of that many random bytes, with a letter in front: a token or password that begins with
// '-' would be taken for an option on every command line it is given to.
std::string secret_text(Random& random, size_t byte_count);

}  // namespace kumoi
