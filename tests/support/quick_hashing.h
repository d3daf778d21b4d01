// Password hashing for tests: SHA-256, so that a suite of logins takes milliseconds. Goes into the
// identity service as PasswordHashing{quick_hash, quick_matches}.
#pragma once

#include <string>
#include <string_view>

#include "base/digest.h"

namespace kumoi::test {

inline std::string quick_hash(std::string_view password, std::string_view salt16) {
    return to_hex(salt16) + digest_hex(DigestKind::Sha256, to_hex(salt16) + std::string(password));
}

inline bool quick_matches(std::string_view password, std::string_view hash) {
    const std::string salt_hex(hash.substr(0, 32));
    return hash == salt_hex + digest_hex(DigestKind::Sha256, salt_hex + std::string(password));
}

}  // namespace kumoi::test
