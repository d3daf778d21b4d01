#include "migration/transfer/secure_channel.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>

namespace kumoi::transfer {
namespace {

constexpr char kCipher[] = "TLS_AES_128_GCM_SHA256";
constexpr std::array<unsigned char, 2> kCipherId = {0x13, 0x01};
constexpr size_t kIdentityMax = 128;

struct FreeContext {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
struct FreeSsl {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
};
using ContextPtr = std::unique_ptr<SSL_CTX, FreeContext>;
using SslPtr = std::unique_ptr<SSL, FreeSsl>;

// What the callbacks of one handshake need; lives as long as the SSL object.
struct Handshake {
    std::string identity;
    std::string secret;  // of the client's side
    SecureChannel::FindSecret find;
};

std::string openssl_reason() {
    std::array<char, 256> text{};
    const unsigned long code = ERR_peek_error();
    ERR_clear_error();
    if (code == 0) {
        return "the connection was cut";
    }
    ERR_error_string_n(code, text.data(), text.size());
    return text.data();
}

SSL_SESSION* make_session(SSL* ssl, const std::string& secret) {
    const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, kCipherId.data());
    SSL_SESSION* session = SSL_SESSION_new();
    const auto* key = reinterpret_cast<const unsigned char*>(secret.data());
    if (cipher == nullptr || session == nullptr || secret.size() != kSecretSize ||
        SSL_SESSION_set1_master_key(session, key, secret.size()) != 1 ||
        SSL_SESSION_set_cipher(session, cipher) != 1 ||
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) != 1) {
        SSL_SESSION_free(session);
        return nullptr;
    }
    return session;
}

Handshake& handshake_of(SSL* ssl) {
    return *static_cast<Handshake*>(SSL_get_app_data(ssl));
}

int use_session(SSL* ssl, const EVP_MD* digest, const unsigned char** id, size_t* id_length,
                SSL_SESSION** session) {
    Handshake& handshake = handshake_of(ssl);
    *session = nullptr;
    if (digest != nullptr && EVP_MD_get_type(digest) != NID_sha256) {
        return 1;  // the server wants a cipher that our key is not for: it gets none
    }
    *session = make_session(ssl, handshake.secret);
    *id = reinterpret_cast<const unsigned char*>(handshake.identity.data());
    *id_length = handshake.identity.size();
    return *session != nullptr ? 1 : 0;
}

int find_session(SSL* ssl, const unsigned char* id, size_t id_length, SSL_SESSION** session) {
    *session = nullptr;
    Handshake& handshake = handshake_of(ssl);
    if (id_length == 0 || id_length > kIdentityMax) {
        return 1;
    }
    handshake.identity.assign(reinterpret_cast<const char*>(id), id_length);
    const auto secret = handshake.find(handshake.identity);
    if (!secret) {
        return 1;  // without a session and without certificates the handshake fails
    }
    *session = make_session(ssl, *secret);
    return *session != nullptr ? 1 : 0;
}

Result<ContextPtr> make_context(bool server) {
    ContextPtr context(SSL_CTX_new(server ? TLS_server_method() : TLS_client_method()));
    if (!context || SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context.get(), kCipher) != 1 ||
        SSL_CTX_set_num_tickets(context.get(), 0) != 1) {
        return Error::internal("OpenSSL cannot be set up for a transfer: {}", openssl_reason());
    }
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context.get(), SSL_MODE_AUTO_RETRY);
    if (server) {
        SSL_CTX_set_psk_find_session_callback(context.get(), find_session);
    } else {
        SSL_CTX_set_psk_use_session_callback(context.get(), use_session);
    }
    return context;
}

class TlsChannel final : public SecureChannel {
public:
    TlsChannel(UniqueFd socket, const Clock& clock, ChannelTimeouts timeouts)
        : socket_(std::move(socket)), clock_(clock), timeouts_(timeouts) {}

    Result<void> shake_hands(Handshake handshake, bool server) {
        handshake_ = std::move(handshake);
        context_ = TRY(make_context(server));
        ssl_.reset(SSL_new(context_.get()));
        const int flags = ::fcntl(socket_.get(), F_GETFL);
        if (!ssl_ || flags < 0 || ::fcntl(socket_.get(), F_SETFL, flags | O_NONBLOCK) != 0 ||
            SSL_set_app_data(ssl_.get(), &handshake_) != 1 ||
            SSL_set_fd(ssl_.get(), socket_.get()) != 1) {
            return Error::internal("a transfer's TLS could not be set up: {}", openssl_reason());
        }
        const int64_t deadline = clock_.monotonic_ns() + timeouts_.handshake_ms * kNanosPerMilli;
        TRY_CONTEXT(
            repeat(deadline,
                   [&] { return server ? SSL_accept(ssl_.get()) : SSL_connect(ssl_.get()); }),
            "the handshake of a transfer");
        // A server that answered with a certificate instead of our key is not the one we want.
        if (SSL_session_reused(ssl_.get()) != 1) {
            return Error::forbidden("the peer of a transfer does not know its key");
        }
        handshake_.secret.clear();
        return {};
    }

    const std::string& identity() const override { return handshake_.identity; }

    Result<size_t> read(std::span<std::byte> bytes) override {
        size_t count = 0;
        const auto done = repeat(idle_deadline(), [&] {
            return SSL_read_ex(ssl_.get(), bytes.data(), bytes.size(), &count);
        });
        if (!done.ok()) {
            return ended_ ? Result<size_t>(0) : Result<size_t>(done.error());
        }
        return count;
    }

    Result<void> write(std::span<const std::byte> bytes) override {
        size_t count = 0;
        return bytes.empty() ? Result<void>() : repeat(idle_deadline(), [&] {
            return SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &count);
        });
    }

    void interrupt() override { (void)::shutdown(socket_.get(), SHUT_RDWR); }

private:
    int64_t idle_deadline() const {
        return clock_.monotonic_ns() + timeouts_.idle_ms * kNanosPerMilli;
    }

    template <class Operation>
    Result<void> repeat(int64_t deadline, const Operation& operation) {
        while (true) {
            ERR_clear_error();
            const int done = operation();
            if (done == 1) {
                return {};
            }
            const int why = SSL_get_error(ssl_.get(), done);
            if (why == SSL_ERROR_ZERO_RETURN) {
                ended_ = true;
                return Error::unavailable("the peer has ended the transfer");
            }
            if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
                return Error::unavailable("{}", openssl_reason());
            }
            TRY(wait(why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline));
        }
    }

    Result<void> wait(short events, int64_t deadline) const {
        const int64_t left_ms = (deadline - clock_.monotonic_ns()) / kNanosPerMilli;
        pollfd entry{socket_.get(), events, 0};
        const int ready =
            left_ms <= 0 ? 0
                         : ::poll(&entry, 1, static_cast<int>(std::min<int64_t>(left_ms, INT_MAX)));
        if (ready == 0) {
            return Error::timeout("the peer of a transfer is silent");
        }
        if (ready < 0 && errno != EINTR) {
            return Error::from_errno(errno, "waiting for the peer of a transfer");
        }
        return {};
    }

    const UniqueFd socket_;
    const Clock& clock_;
    const ChannelTimeouts timeouts_;
    Handshake handshake_;
    ContextPtr context_;
    SslPtr ssl_;
    bool ended_ = false;
};

// OpenSSL writes with write(2): a peer that has gone must not end the process.
void ignore_broken_pipes() {
    struct sigaction current {};
    if (::sigaction(SIGPIPE, nullptr, &current) == 0 && current.sa_handler == SIG_DFL) {
        ::signal(SIGPIPE, SIG_IGN);
    }
}

Result<std::unique_ptr<SecureChannel>> make_channel(UniqueFd socket, Handshake handshake,
                                                    bool server, const Clock& clock,
                                                    ChannelTimeouts timeouts) {
    ignore_broken_pipes();
    auto channel = std::make_unique<TlsChannel>(std::move(socket), clock, timeouts);
    TRY(channel->shake_hands(std::move(handshake), server));
    return std::unique_ptr<SecureChannel>(std::move(channel));
}

}  // namespace

Result<std::unique_ptr<SecureChannel>> SecureChannel::connect(UniqueFd socket,
                                                              const std::string& identity,
                                                              const std::string& secret,
                                                              const Clock& clock,
                                                              ChannelTimeouts timeouts) {
    if (identity.empty() || identity.size() > kIdentityMax || secret.size() != kSecretSize) {
        return Error::invalid("a transfer's identity has 1 to {} bytes and its secret {}",
                              kIdentityMax, kSecretSize);
    }
    return make_channel(std::move(socket), {identity, secret, {}}, false, clock, timeouts);
}

Result<std::unique_ptr<SecureChannel>> SecureChannel::accept(UniqueFd socket, FindSecret find,
                                                             const Clock& clock,
                                                             ChannelTimeouts timeouts) {
    return make_channel(std::move(socket), {{}, {}, std::move(find)}, true, clock, timeouts);
}

}  // namespace kumoi::transfer
