// TLS 1.3 over OpenSSL, as both the moves of folders (migration/transfer) and live migration use
// it: with one pre-shared key, or with certificates on both sides. No other version, no session
// tickets, no resumption. Sockets are non-blocking. One thread a session.
#pragma once

#include <openssl/ssl.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace kumoi::link {

constexpr size_t kTlsSecretSize = 32;
constexpr size_t kTlsIdentityMax = 128;
constexpr size_t kTlsBindingSize = 32;

struct FreeSslContext {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
struct FreeSsl {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
};
using SslContextPtr = std::unique_ptr<SSL_CTX, FreeSslContext>;
using SslPtr = std::unique_ptr<SSL, FreeSsl>;

enum class TlsRole { Client, Server };

// The key of one handshake. A client fills the first two; a server finds the secret of the identity
// that the client names, or nothing, and `identity` is that afterwards. Must outlive the handshake.
struct TlsPsk {
    std::string identity;
    std::string secret;  // kTlsSecretSize bytes
    std::function<std::optional<std::string>(const std::string& identity)> find = {};
};

// PEM files of this host. `hosts`: names or addresses of which the peer's certificate must have one
// as subject alternative name; empty: whoever the authority has signed.
struct TlsFiles {
    std::string certificate;  // with its chain
    std::string key;
    std::string authority;
    std::vector<std::string> hosts = {};
};

Result<SslContextPtr> psk_context(TlsRole role);
// Reads the files, as they are now. InvalidArgument: one cannot be used, and which.
Result<SslContextPtr> certificate_context(TlsRole role, const TlsFiles& files);

enum class KernelTls { Try, Never };
// A session over a socket, which it makes non-blocking and does not own. `psk`: of a psk_context().
Result<SslPtr> make_ssl(SSL_CTX& context, int socket, TlsPsk* psk, KernelTls kernel);
// Forbidden: the peer does not know the key.
Result<void> shake_hands(SSL& ssl, TlsRole role, const Clock& clock, int64_t deadline_ns);
// Forbidden: the peer's certificate is of another host.
Result<void> check_peer_host(const SSL& ssl, const std::vector<std::string>& hosts);
// The kernel encrypts and decrypts, so that plain reads and writes of the socket will do.
bool in_kernel(const SSL& ssl);
// Of this session and of no other, the same at both ends.
Result<std::array<char, kTlsBindingSize>> session_binding(SSL& ssl);

// What OpenSSL last found wrong; clears it.
std::string tls_reason();
// Repeats an operation that returns 1 when done, until then or the deadline (of `clock`).
// Unavailable: the connection is of no use any more; `ended`, if given: the peer ended it properly.
Result<void> repeat_tls(SSL& ssl, const Clock& clock, int64_t deadline_ns,
                        const std::function<int()>& operation, bool* ended = nullptr);
// OpenSSL writes with write(2): a peer that has gone must not end the process.
void ignore_broken_pipes();

}  // namespace kumoi::link
