#include "migration/link/preamble.h"

#include <endian.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "base/digest.h"

namespace kumoi::link {
namespace {

constexpr std::string_view kMagic = "kumoiML1";
constexpr uint16_t kVersion = 1;

template <class Integer>
void put(std::string& to, Integer value) {
    for (size_t i = sizeof(value); i-- > 0;) {
        to.push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i)));
    }
}

// Takes numbers from the front of bytes whose size has been checked.
class Reader {
public:
    explicit Reader(std::string_view bytes) : bytes_(bytes) {}
    template <class Integer>
    Integer take() {
        uint64_t value = 0;
        for (const char byte : text(sizeof(Integer))) {
            value = value << 8 | static_cast<uint8_t>(byte);
        }
        return static_cast<Integer>(value);
    }
    std::string_view text(size_t size) {
        const std::string_view piece = bytes_.substr(0, size);
        bytes_.remove_prefix(piece.size());
        return piece;
    }
    template <class Array>
    void fill(Array& to) {
        std::ranges::copy(text(to.size()), to.begin());
    }

private:
    std::string_view bytes_;
};

Result<Reader> open_message(std::string_view bytes, size_t size, const char* what) {
    if (bytes.size() != size || !bytes.starts_with(kMagic)) {
        return Error::corrupt("this is no {} of a migration link", what);
    }
    Reader reader(bytes.substr(kMagic.size()));
    if (const auto version = reader.take<uint16_t>(); version != kVersion) {
        return Error::unsupported("the other host speaks version {} of the migration link, not {}",
                                  version, kVersion);
    }
    return reader;
}

}  // namespace

std::array<char, kNonceSize> make_nonce(Random& random) {
    std::array<char, kNonceSize> nonce{};
    random.fill(std::as_writable_bytes(std::span(nonce)));
    return nonce;
}

std::string encode(const Greeting& greeting) {
    std::string bytes(kMagic);
    put(bytes, kVersion);
    put(bytes, static_cast<uint8_t>(greeting.encryption));
    bytes.append(kGreetingSize - kNonceSize - bytes.size(), '\0');
    bytes.append(greeting.nonce.begin(), greeting.nonce.end());
    return bytes;
}

std::string encode(const Introduction& introduction) {
    std::string bytes(kMagic);
    put(bytes, kVersion);
    put(bytes, static_cast<uint8_t>(introduction.purpose));
    put(bytes, uint8_t{0});
    put(bytes, introduction.round);
    put(bytes, introduction.index);
    put(bytes, introduction.count);
    put(bytes, uint32_t{0});
    bytes.append(introduction.id.begin(), introduction.id.end());
    bytes.append(introduction.nonce.begin(), introduction.nonce.end());
    return bytes + introduction.proof;
}

std::string encode(const Reply& reply) {
    std::string bytes(1, static_cast<char>(reply.verdict));
    bytes.append(kReplySize - kProofSize - bytes.size(), '\0');
    bytes += reply.proof;
    bytes.resize(kReplySize);
    return bytes;
}

Result<Greeting> parse_greeting(std::string_view bytes) {
    Reader reader = TRY(open_message(bytes, kGreetingSize, "greeting"));
    Greeting greeting;
    const auto encryption = reader.take<uint8_t>();
    if (encryption > static_cast<uint8_t>(Encryption::Certificates)) {
        return Error::unsupported("the other host wants encryption {}, which is not known here",
                                  encryption);
    }
    greeting.encryption = static_cast<Encryption>(encryption);
    reader = Reader(bytes.substr(kGreetingSize - kNonceSize));
    reader.fill(greeting.nonce);
    return greeting;
}

Result<Introduction> parse_introduction(std::string_view bytes) {
    Reader reader = TRY(open_message(bytes, kIntroductionSize, "introduction"));
    Introduction introduction;
    const auto purpose = reader.take<uint8_t>();
    (void)reader.take<uint8_t>();
    introduction.purpose = static_cast<Purpose>(purpose);
    introduction.round = reader.take<uint32_t>();
    introduction.index = reader.take<uint16_t>();
    introduction.count = reader.take<uint16_t>();
    (void)reader.take<uint32_t>();
    reader.fill(introduction.id);
    reader.fill(introduction.nonce);
    introduction.proof = reader.text(kProofSize);
    if (purpose != static_cast<uint8_t>(Purpose::Stream) &&
        purpose != static_cast<uint8_t>(Purpose::Question)) {
        return Error::corrupt("a connection for purpose {}, which there is not", purpose);
    }
    if (introduction.count == 0 || introduction.count > kStreamsMax ||
        introduction.index >= introduction.count) {
        return Error::corrupt("stream {} of {}; there may be {}", introduction.index,
                              introduction.count, kStreamsMax);
    }
    return introduction;
}

Result<Reply> parse_reply(std::string_view bytes) {
    if (bytes.size() != kReplySize || (bytes[0] != static_cast<char>(Verdict::Welcome) &&
                                       bytes[0] != static_cast<char>(Verdict::Refused))) {
        return Error::corrupt("this is no reply of a migration link");
    }
    return Reply{static_cast<Verdict>(bytes[0]), std::string(bytes.substr(8))};
}

Transcript::Transcript(std::string_view key, const Greeting& greeting,
                       const Introduction& introduction)
    : key_(key),
      said_(encode(greeting) + encode(introduction).substr(0, kIntroductionSize - kProofSize)) {}

std::string Transcript::over(std::string_view label) const {
    return proof_of(label, "");
}

std::string Transcript::proof_of(std::string_view label, std::string_view text) const {
    std::string message(label);
    message.push_back('\0');
    message += said_;
    message += text;
    return hmac_sha256(key_, message);
}

}  // namespace kumoi::link
