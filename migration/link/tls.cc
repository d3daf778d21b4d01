#include "migration/link/tls.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>

namespace kumoi::link {
namespace {

// The one whose key can be given in advance: SHA-256, and the kernel has it too.
constexpr char kCipher[] = "TLS_AES_128_GCM_SHA256";
constexpr std::array<unsigned char, 2> kCipherId = {0x13, 0x01};
constexpr char kBindingLabel[] = "EXPORTER-kumoi-migration-link";

SSL_SESSION* make_session(SSL* ssl, const std::string& secret) {
    const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, kCipherId.data());
    SSL_SESSION* session = SSL_SESSION_new();
    const auto* key = reinterpret_cast<const unsigned char*>(secret.data());
    if (cipher == nullptr || session == nullptr || secret.size() != kTlsSecretSize ||
        SSL_SESSION_set1_master_key(session, key, secret.size()) != 1 ||
        SSL_SESSION_set_cipher(session, cipher) != 1 ||
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) != 1) {
        SSL_SESSION_free(session);
        return nullptr;
    }
    return session;
}

TlsPsk& psk_of(SSL* ssl) {
    return *static_cast<TlsPsk*>(SSL_get_app_data(ssl));
}

int use_session(SSL* ssl, const EVP_MD* digest, const unsigned char** id, size_t* id_length,
                SSL_SESSION** session) {
    TlsPsk& psk = psk_of(ssl);
    *session = nullptr;
    if (digest != nullptr && EVP_MD_get_type(digest) != NID_sha256) {
        return 1;  // the server wants a cipher that our key is not for: it gets none
    }
    *session = make_session(ssl, psk.secret);
    *id = reinterpret_cast<const unsigned char*>(psk.identity.data());
    *id_length = psk.identity.size();
    return *session != nullptr ? 1 : 0;
}

int find_session(SSL* ssl, const unsigned char* id, size_t id_length, SSL_SESSION** session) {
    *session = nullptr;
    TlsPsk& psk = psk_of(ssl);
    if (id_length == 0 || id_length > kTlsIdentityMax) {
        return 1;
    }
    psk.identity.assign(reinterpret_cast<const char*>(id), id_length);
    const auto secret = psk.find(psk.identity);
    if (!secret) {
        return 1;  // without a session and without certificates the handshake fails
    }
    *session = make_session(ssl, *secret);
    return *session != nullptr ? 1 : 0;
}

Result<SslContextPtr> make_context(TlsRole role) {
    SslContextPtr context(
        SSL_CTX_new(role == TlsRole::Server ? TLS_server_method() : TLS_client_method()));
    if (!context || SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context.get(), kCipher) != 1 ||
        SSL_CTX_set_num_tickets(context.get(), 0) != 1) {
        return Error::internal("OpenSSL cannot be set up: {}", tls_reason());
    }
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context.get(), SSL_MODE_AUTO_RETRY);
    return context;
}

// The error queue may hold more than one; the first is the cause.
Error unusable(const std::string& file, const char* what) {
    return Error::invalid("{} cannot be used as {}: {}", file, what, tls_reason());
}

Result<void> wait_for(SSL& ssl, const Clock& clock, int64_t deadline_ns, short events) {
    const int64_t left_ms = (deadline_ns - clock.monotonic_ns()) / kNanosPerMilli;
    pollfd entry{SSL_get_fd(&ssl), events, 0};
    const int ready =
        left_ms <= 0 ? 0 : ::poll(&entry, 1, static_cast<int>(std::min<int64_t>(left_ms, INT_MAX)));
    if (ready == 0) {
        return Error::timeout("the other host is silent");
    }
    if (ready < 0 && errno != EINTR) {
        return Error::from_errno(errno, "waiting for the other host");
    }
    return {};
}

}  // namespace

std::string tls_reason() {
    std::array<char, 256> text{};
    const unsigned long code = ERR_peek_error();
    ERR_clear_error();
    if (code == 0) {
        return "the connection was cut";
    }
    ERR_error_string_n(code, text.data(), text.size());
    return text.data();
}

Result<SslContextPtr> psk_context(TlsRole role) {
    SslContextPtr context = TRY(make_context(role));
    if (role == TlsRole::Server) {
        SSL_CTX_set_psk_find_session_callback(context.get(), find_session);
    } else {
        SSL_CTX_set_psk_use_session_callback(context.get(), use_session);
    }
    return context;
}

Result<SslContextPtr> certificate_context(TlsRole role, const TlsFiles& files) {
    SslContextPtr context = TRY(make_context(role));
    if (SSL_CTX_use_certificate_chain_file(context.get(), files.certificate.c_str()) != 1) {
        return unusable(files.certificate, "this host's certificate");
    }
    if (SSL_CTX_use_PrivateKey_file(context.get(), files.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context.get()) != 1) {
        return unusable(files.key, "the key of this host's certificate");
    }
    if (SSL_CTX_load_verify_locations(context.get(), files.authority.c_str(), nullptr) != 1) {
        return unusable(files.authority, "the authority of the hosts' certificates");
    }
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    return context;
}

Result<SslPtr> make_ssl(SSL_CTX& context, int socket, TlsPsk* psk, KernelTls kernel) {
    SslPtr ssl(SSL_new(&context));
    const int flags = ::fcntl(socket, F_GETFL);
    if (!ssl || flags < 0 || ::fcntl(socket, F_SETFL, flags | O_NONBLOCK) != 0 ||
        SSL_set_app_data(ssl.get(), psk) != 1 || SSL_set_fd(ssl.get(), socket) != 1) {
        return Error::internal("TLS could not be set up: {}", tls_reason());
    }
    if (kernel == KernelTls::Try) {
        SSL_set_options(ssl.get(), SSL_OP_ENABLE_KTLS);
    }
    return ssl;
}

Result<void> shake_hands(SSL& ssl, TlsRole role, const Clock& clock, int64_t deadline_ns) {
    const bool with_psk = SSL_get_app_data(&ssl) != nullptr;
    TRY(repeat_tls(ssl, clock, deadline_ns,
                   [&] { return role == TlsRole::Server ? SSL_accept(&ssl) : SSL_connect(&ssl); }));
    // A server that answered with a certificate instead of our key is not the one we want.
    if (with_psk && SSL_session_reused(&ssl) != 1) {
        return Error::forbidden("the other host does not know the key");
    }
    return {};
}

Result<void> check_peer_host(const SSL& ssl, const std::vector<std::string>& hosts) {
    X509* certificate = SSL_get0_peer_certificate(&ssl);
    if (certificate == nullptr) {
        return Error::forbidden("the other host has shown no certificate");
    }
    const auto is_one = [&](const std::string& name) {
        return X509_check_ip_asc(certificate, name.c_str(), 0) == 1 ||
               X509_check_host(certificate, name.data(), name.size(),
                               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr) == 1;
    };
    if (hosts.empty() || std::ranges::any_of(hosts, is_one)) {
        return {};
    }
    return Error::forbidden("the other host's certificate is not of {}",
                            fmt::to_string(fmt::join(hosts, " or ")))
        .with_hint("Its subject alternative names must hold the host's name or address.");
}

bool in_kernel(const SSL& ssl) {
    return BIO_get_ktls_send(SSL_get_wbio(&ssl)) == 1 && BIO_get_ktls_recv(SSL_get_rbio(&ssl)) == 1;
}

Result<std::array<char, kTlsBindingSize>> session_binding(SSL& ssl) {
    std::array<char, kTlsBindingSize> binding{};
    if (SSL_export_keying_material(&ssl, reinterpret_cast<unsigned char*>(binding.data()),
                                   binding.size(), kBindingLabel, sizeof(kBindingLabel) - 1,
                                   nullptr, 0, 0) != 1) {
        return Error::internal("a TLS session has no binding: {}", tls_reason());
    }
    return binding;
}

Result<void> repeat_tls(SSL& ssl, const Clock& clock, int64_t deadline_ns,
                        const std::function<int()>& operation, bool* ended) {
    while (true) {
        ERR_clear_error();
        const int done = operation();
        if (done == 1) {
            return {};
        }
        const int why = SSL_get_error(&ssl, done);
        if (why == SSL_ERROR_ZERO_RETURN) {
            if (ended != nullptr) {
                *ended = true;
            }
            return Error::unavailable("the other host has ended the connection");
        }
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
            return Error::unavailable("{}", tls_reason());
        }
        TRY(wait_for(ssl, clock, deadline_ns, why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT));
    }
}

void ignore_broken_pipes() {
    struct sigaction current {};
    if (::sigaction(SIGPIPE, nullptr, &current) == 0 && current.sa_handler == SIG_DFL) {
        ::signal(SIGPIPE, SIG_IGN);
    }
}

}  // namespace kumoi::link
