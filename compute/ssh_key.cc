#include "compute/ssh_key.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

#include <array>
#include <memory>
#include <optional>
#include <sstream>
#include <vector>

#include "base/digest.h"

namespace kumoi::compute {
namespace {

constexpr size_t kEd25519Bytes = 32;
constexpr size_t kRsaBitsMin = 1024;

struct KeyFree {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(BIO* bio) const { BIO_free(bio); }
    void operator()(BIGNUM* number) const { BN_free(number); }
    void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
    void operator()(OSSL_PARAM_BLD* builder) const { OSSL_PARAM_BLD_free(builder); }
    void operator()(OSSL_PARAM* params) const { OSSL_PARAM_free(params); }
};
using Key = std::unique_ptr<EVP_PKEY, KeyFree>;
using Bio = std::unique_ptr<BIO, KeyFree>;
using Number = std::unique_ptr<BIGNUM, KeyFree>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, KeyFree>;

Error invalid_key(std::string_view why) {
    return Error::invalid("Keypair data is invalid: failed to generate fingerprint ({})", why)
        .with_hint(
            "Give one line of an OpenSSH public key file: ssh-ed25519, ssh-rsa or "
            "ecdsa-sha2-nistp256/384/521.")
        .with_fault("InvalidKeypair");
}

// Reads the length-prefixed strings of a key blob (RFC 4251 §5).
class BlobReader {
public:
    explicit BlobReader(std::string_view blob) : rest_(blob) {}
    std::optional<std::string_view> next() {
        if (rest_.size() < 4) {
            return std::nullopt;
        }
        size_t size = 0;
        for (size_t index = 0; index < 4; ++index) {
            size = size << 8 | static_cast<unsigned char>(rest_[index]);
        }
        if (size > rest_.size() - 4) {
            return std::nullopt;
        }
        const std::string_view field = rest_.substr(4, size);
        rest_.remove_prefix(4 + size);
        return field;
    }
    bool at_end() const { return rest_.empty(); }

private:
    std::string_view rest_;
};

void append_u32(std::string& out, size_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) {
        out += static_cast<char>(value >> shift & 0xFF);
    }
}

void append_string(std::string& out, std::string_view text) {
    append_u32(out, text.size());
    out += text;
}

std::string fingerprint_of(std::string_view blob) {
    const std::string hex = digest_hex(DigestKind::Md5, blob);
    std::string text;
    for (size_t index = 0; index < hex.size(); index += 2) {
        text += index == 0 ? "" : ":";
        text += hex.substr(index, 2);
    }
    return text;
}

Result<void> check_rsa(BlobReader& reader) {
    const auto exponent = reader.next();
    const auto modulus = reader.next();
    if (!exponent || !modulus || exponent->empty() || exponent->size() > 8) {
        return invalid_key("the RSA numbers are damaged");
    }
    if (modulus->size() * 8 < kRsaBitsMin || modulus->size() > 2049) {
        return invalid_key("the RSA modulus is shorter than 1024 or longer than 16384 bits");
    }
    return {};
}

Result<void> check_ecdsa(BlobReader& reader, std::string_view type) {
    const auto curve = reader.next();
    const auto point = reader.next();
    const std::string_view expected = type.substr(std::string_view("ecdsa-sha2-").size());
    const size_t coordinate = expected == "nistp256" ? 32 : expected == "nistp384" ? 48 : 66;
    if (!curve || *curve != expected || !point || point->size() != 1 + 2 * coordinate ||
        point->front() != 4) {
        return invalid_key("the curve point is damaged");
    }
    return {};
}

Result<void> check_blob(std::string_view blob, std::string_view type) {
    BlobReader reader(blob);
    const auto inner = reader.next();
    if (!inner || *inner != type) {
        return invalid_key("the encoded key is of another type than the line says");
    }
    if (type == "ssh-ed25519") {
        const auto point = reader.next();
        if (!point || point->size() != kEd25519Bytes) {
            return invalid_key("an Ed25519 key has 32 bytes");
        }
    } else if (type == "ssh-rsa") {
        TRY(check_rsa(reader));
    } else if (type == "ecdsa-sha2-nistp256" || type == "ecdsa-sha2-nistp384" ||
               type == "ecdsa-sha2-nistp521") {
        TRY(check_ecdsa(reader, type));
    } else {
        return invalid_key(fmt::format("type {} is not supported", type.substr(0, 64)));
    }
    if (!reader.at_end()) {
        return invalid_key("there are bytes behind the key");
    }
    return {};
}

Error openssl_failed() {
    return Error::internal("OpenSSL could not make a key pair");
}

// Two's complement with the shortest form and a leading zero byte when the top bit is set.
Result<std::string> rsa_number(EVP_PKEY* key, const char* name) {
    BIGNUM* raw = nullptr;
    if (EVP_PKEY_get_bn_param(key, name, &raw) != 1) {
        return openssl_failed();
    }
    const Number number(raw);
    std::vector<unsigned char> bytes(static_cast<size_t>(BN_num_bytes(number.get())));
    BN_bn2bin(number.get(), bytes.data());
    std::string text(bytes.begin(), bytes.end());
    if (!text.empty() && (static_cast<unsigned char>(text.front()) & 0x80) != 0) {
        text.insert(text.begin(), '\0');
    }
    return text;
}

SshKeypair keypair_of(std::string_view type, const std::string& blob, std::string private_key,
                      const std::string& comment) {
    return {fmt::format("{} {} {}", type, base64_encode(blob), comment), std::move(private_key),
            fingerprint_of(blob)};
}

Result<SshKeypair> generate_rsa(const std::string& comment) {
    const Key key(EVP_RSA_gen(2048));
    const Bio bio(BIO_new(BIO_s_mem()));
    if (key == nullptr || bio == nullptr ||
        PEM_write_bio_PrivateKey_traditional(bio.get(), key.get(), nullptr, nullptr, 0, nullptr,
                                             nullptr) != 1) {
        return openssl_failed();
    }
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &data);
    std::string blob;
    append_string(blob, "ssh-rsa");
    append_string(blob, TRY(rsa_number(key.get(), OSSL_PKEY_PARAM_RSA_E)));
    append_string(blob, TRY(rsa_number(key.get(), OSSL_PKEY_PARAM_RSA_N)));
    return keypair_of("ssh-rsa", blob, std::string(data, static_cast<size_t>(size)), comment);
}

// OpenSSH's PROTOCOL.key: "openssh-key-v1", no cipher, one key, padded with 1, 2, 3 ... to 8 bytes.
Result<std::string> openssh_private_key(const std::string& blob, std::string_view public_bytes,
                                        std::string_view seed, const std::string& comment) {
    std::array<unsigned char, 4> check{};
    if (RAND_bytes(check.data(), check.size()) != 1) {
        return openssl_failed();
    }
    std::string secret;
    for (int copy = 0; copy < 2; ++copy) {
        secret.append(reinterpret_cast<const char*>(check.data()), check.size());
    }
    append_string(secret, "ssh-ed25519");
    append_string(secret, public_bytes);
    append_string(secret, std::string(seed) + std::string(public_bytes));
    append_string(secret, comment);
    for (char pad = 1; secret.size() % 8 != 0; ++pad) {
        secret += pad;
    }
    std::string body("openssh-key-v1\0", 15);
    append_string(body, "none");
    append_string(body, "none");
    append_string(body, "");
    append_u32(body, 1);
    append_string(body, blob);
    append_string(body, secret);
    const std::string encoded = base64_encode(body);
    std::string pem = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
    for (size_t index = 0; index < encoded.size(); index += 70) {
        pem += encoded.substr(index, 70) + "\n";
    }
    return pem + "-----END OPENSSH PRIVATE KEY-----\n";
}

Result<SshKeypair> generate_ed25519(const std::string& comment) {
    const Key key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
    std::array<unsigned char, kEd25519Bytes> public_raw{};
    std::array<unsigned char, kEd25519Bytes> seed_raw{};
    size_t public_size = public_raw.size();
    size_t seed_size = seed_raw.size();
    if (key == nullptr ||
        EVP_PKEY_get_raw_public_key(key.get(), public_raw.data(), &public_size) != 1 ||
        EVP_PKEY_get_raw_private_key(key.get(), seed_raw.data(), &seed_size) != 1) {
        return openssl_failed();
    }
    const std::string_view public_bytes(reinterpret_cast<const char*>(public_raw.data()),
                                        public_size);
    const std::string_view seed(reinterpret_cast<const char*>(seed_raw.data()), seed_size);
    std::string blob;
    append_string(blob, "ssh-ed25519");
    append_string(blob, public_bytes);
    return keypair_of("ssh-ed25519", blob,
                      TRY(openssh_private_key(blob, public_bytes, seed, comment)), comment);
}

}  // namespace

Result<SshPublicKey> parse_ssh_public_key(std::string_view line) {
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r' || line.back() == ' ')) {
        line.remove_suffix(1);
    }
    if (line.find('\n') != std::string_view::npos || line.find('\0') != std::string_view::npos) {
        return invalid_key("it is more than one line");
    }
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) {
        return invalid_key("it is not 'type base64 comment'");
    }
    SshPublicKey key;
    key.type = std::string(line.substr(0, space));
    std::string_view rest = line.substr(space + 1);
    const size_t end = std::min(rest.find(' '), rest.size());
    key.comment = std::string(rest.substr(std::min(end + 1, rest.size())));
    const auto blob = base64_decode(rest.substr(0, end));
    if (!blob || blob->empty()) {
        return invalid_key("the key is not base64");
    }
    TRY(check_blob(*blob, key.type));
    key.fingerprint_md5 = fingerprint_of(*blob);
    return key;
}

Result<SshKeypair> generate_ssh_keypair(SshKeyKind kind, const std::string& comment) {
    return kind == SshKeyKind::Rsa2048 ? generate_rsa(comment) : generate_ed25519(comment);
}

// --- Encrypting ---

namespace {

Number number_of(std::string_view bytes) {
    return Number(BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()),
                            static_cast<int>(bytes.size()), nullptr));
}

Key rsa_key(std::string_view exponent, std::string_view modulus) {
    const Number e = number_of(exponent);
    const Number n = number_of(modulus);
    const std::unique_ptr<OSSL_PARAM_BLD, KeyFree> builder(OSSL_PARAM_BLD_new());
    if (!e || !n || !builder ||
        OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
        OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get()) != 1) {
        return nullptr;
    }
    const std::unique_ptr<OSSL_PARAM, KeyFree> params(OSSL_PARAM_BLD_to_param(builder.get()));
    const KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr));
    EVP_PKEY* key = nullptr;
    if (!params || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
        EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1) {
        return nullptr;
    }
    return Key(key);
}

// Null: the blob is no RSA key.
Key rsa_key_of(std::string_view blob) {
    BlobReader reader(blob);
    const auto type = reader.next();
    const auto exponent = reader.next();
    const auto modulus = reader.next();
    return type == "ssh-rsa" && exponent && modulus ? rsa_key(*exponent, *modulus) : nullptr;
}

std::optional<std::string> encrypt(EVP_PKEY* key, std::string_view text) {
    const KeyContext context(EVP_PKEY_CTX_new(key, nullptr));
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    size_t size = 0;
    if (!context || EVP_PKEY_encrypt_init(context.get()) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_PADDING) != 1 ||
        EVP_PKEY_encrypt(context.get(), nullptr, &size, bytes, text.size()) != 1) {
        return std::nullopt;
    }
    std::string secret(size, '\0');
    if (EVP_PKEY_encrypt(context.get(), reinterpret_cast<unsigned char*>(secret.data()), &size,
                         bytes, text.size()) != 1) {
        return std::nullopt;
    }
    secret.resize(size);
    return secret;
}

}  // namespace

Result<std::string> encrypt_for_ssh_key(std::string_view line, std::string_view text) {
    constexpr size_t kLineMax = 16384;
    std::istringstream words{std::string(line.substr(0, kLineMax))};
    std::string type;
    std::string encoded;
    words >> type >> encoded;
    const auto blob = base64_decode(encoded);
    if (type != "ssh-rsa" || !blob) {
        return Error::invalid("the server's key is no ssh-rsa key");
    }
    const Key key = rsa_key_of(*blob);
    const auto secret = key ? encrypt(key.get(), text) : std::nullopt;
    if (!secret) {
        return Error::invalid("{} bytes cannot be encrypted for the server's ssh-rsa key",
                              text.size());
    }
    return base64_encode(*secret);
}

}  // namespace kumoi::compute
