// What two hosts say to each other before a connection of a migration is one
// (docs/reference/migration-link.md): three messages of fixed size, big endian, each side's
// knowledge of the migration's key proved over both nonces. Bytes from a peer are hostile. Values;
// no I/O.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/random.h"
#include "base/result.h"

namespace kumoi::link {

constexpr size_t kKeySize = 32;
constexpr size_t kNonceSize = 32;
constexpr size_t kProofSize = 32;
constexpr size_t kIdSize = 16;
constexpr size_t kGreetingSize = 48;
constexpr size_t kIntroductionSize = 104;
constexpr size_t kReplySize = 40;
constexpr uint16_t kStreamsMax = 32;
constexpr size_t kTextMax = 16u << 10;

// How what follows the preamble travels. The destination decides, the proofs cover it.
enum class Encryption : uint8_t { None = 0, Psk = 1, Certificates = 2 };

enum class Purpose : uint8_t {
    Stream = 1,    // one of the connections of a migration
    Question = 2,  // one text about it, and one back
};

// From the side that was called.
struct Greeting {
    Encryption encryption = Encryption::None;
    std::array<char, kNonceSize> nonce{};
};

// From the side that calls.
struct Introduction {
    Purpose purpose = Purpose::Stream;
    uint32_t round = 0;  // of connecting: after a broken link the next
    uint16_t index = 0;  // which of `count` streams
    uint16_t count = 1;
    std::array<uint8_t, kIdSize> id{};  // the migration
    std::array<char, kNonceSize> nonce{};
    std::string proof;
};

enum class Verdict : uint8_t { Welcome = 1, Refused = 2 };

struct Reply {
    Verdict verdict = Verdict::Refused;
    std::string proof;  // with a welcome
};

std::array<char, kNonceSize> make_nonce(Random& random);

std::string encode(const Greeting& greeting);
std::string encode(const Introduction& introduction);  // without a proof: kProofSize bytes less
std::string encode(const Reply& reply);

// Corrupt: not these bytes. Unsupported: another version.
Result<Greeting> parse_greeting(std::string_view bytes);
Result<Introduction> parse_introduction(std::string_view bytes);
Result<Reply> parse_reply(std::string_view bytes);

// What both sides of one connection have said, and what only those who know the key make of it.
class Transcript {
public:
    Transcript(std::string_view key, const Greeting& greeting, const Introduction& introduction);

    std::string caller_proof() const { return over("kumoi link caller"); }
    std::string callee_proof() const { return over("kumoi link callee"); }
    std::string tls_secret() const { return over("kumoi link tls"); }
    // `text`: of an answer, or the binding of a TLS session.
    std::string proof_of(std::string_view label, std::string_view text) const;

private:
    std::string over(std::string_view label) const;

    std::string key_;
    std::string said_;
};

}  // namespace kumoi::link
