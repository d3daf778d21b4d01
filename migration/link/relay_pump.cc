// pump() and secure_stream(): what a relay does with one connection.
#include <fcntl.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "base/digest.h"
#include "migration/link/relay.h"

namespace kumoi::link {
namespace {

constexpr size_t kPumpBufferSize = 256u << 10;

// One direction's bytes that have been taken and not given yet.
struct Pending {
    std::vector<char> buffer = std::vector<char>(kPumpBufferSize);
    size_t begin = 0;
    size_t end = 0;
    bool over = false;  // nothing more comes, and the other side knows

    bool empty() const { return begin == end; }
    const char* data() const { return buffer.data() + begin; }
    size_t size() const { return end - begin; }
    void fill(size_t count) {
        begin = 0;
        end = count;
    }
};

class Pump {
public:
    Pump(SSL& ssl, int plain) : ssl_(ssl), tls_(SSL_get_fd(&ssl)), plain_(plain) {
        SSL_set_mode(&ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }

    void run() {
        while (!broken_ && !(out_.over && in_.over)) {
            tls_events_ = plain_events_ = 0;
            const bool moved_out = !out_.over && step_out();
            const bool moved_in = !broken_ && !in_.over && step_in();
            if (!moved_out && !moved_in && !broken_ && !(out_.over && in_.over)) {
                wait();
            }
        }
        (void)::shutdown(plain_, SHUT_RDWR);
        (void)::shutdown(tls_, SHUT_RDWR);
    }

private:
    // From the process to the other host. True: something happened.
    bool step_out() {
        if (out_.empty() && !plain_over_ && !take_plain()) {
            return false;
        }
        ERR_clear_error();
        if (out_.empty()) {
            const int told = SSL_shutdown(&ssl_);  // "nothing more comes"; it may still be read
            out_.over = told >= 0 || !wants(told);
            return out_.over;
        }
        size_t count = 0;
        const int done = SSL_write_ex(&ssl_, out_.data(), out_.size(), &count);
        if (done == 1) {
            out_.begin += count;
            return true;
        }
        broken_ = !wants(done);
        return false;
    }

    bool take_plain() {
        const ssize_t count = ::recv(plain_, out_.buffer.data(), out_.buffer.size(), 0);
        if (count > 0) {
            out_.fill(static_cast<size_t>(count));
        } else if (count == 0) {
            plain_over_ = true;
        } else if (errno == EAGAIN || errno == EINTR) {
            plain_events_ |= POLLIN;
            return false;
        } else {
            broken_ = true;
            return false;
        }
        return true;
    }

    bool step_in() {
        if (in_.empty() && !take_tls()) {
            return false;
        }
        const ssize_t count = ::send(plain_, in_.data(), in_.size(), MSG_NOSIGNAL);
        if (count > 0) {
            in_.begin += static_cast<size_t>(count);
            return true;
        }
        broken_ = errno != EAGAIN && errno != EINTR;
        plain_events_ |= POLLOUT;
        return false;
    }

    // As many records as are there.
    bool take_tls() {
        size_t have = 0;
        while (have + (16u << 10) <= in_.buffer.size()) {
            ERR_clear_error();
            size_t count = 0;
            const int done =
                SSL_read_ex(&ssl_, in_.buffer.data() + have, in_.buffer.size() - have, &count);
            if (done == 1) {
                have += count;
                continue;
            }
            if (have > 0) {
                break;  // an end or an error comes again
            }
            if (SSL_get_error(&ssl_, done) == SSL_ERROR_ZERO_RETURN) {
                (void)::shutdown(plain_, SHUT_WR);
                in_.over = true;
                return false;
            }
            broken_ = !wants(done);
            return false;
        }
        in_.fill(have);
        return true;
    }

    // Whether OpenSSL only waits for its socket.
    bool wants(int result) {
        const int why = SSL_get_error(&ssl_, result);
        if (why == SSL_ERROR_WANT_READ) {
            tls_events_ |= POLLIN;
        } else if (why == SSL_ERROR_WANT_WRITE) {
            tls_events_ |= POLLOUT;
        } else {
            return false;
        }
        return true;
    }

    void wait() {
        std::array<pollfd, 2> entries = {{{tls_, tls_events_, 0}, {plain_, plain_events_, 0}}};
        // A socket that nobody waits for would only say again and again that it is broken.
        for (pollfd& entry : entries) {
            entry.fd = entry.events == 0 ? -1 : entry.fd;
        }
        if (::poll(entries.data(), entries.size(), -1) < 0 && errno != EINTR) {
            broken_ = true;
        }
    }

    SSL& ssl_;
    const int tls_;
    const int plain_;
    Pending out_;
    Pending in_;
    bool plain_over_ = false;
    bool broken_ = false;
    short tls_events_ = 0;
    short plain_events_ = 0;
};

// That the peer of this very session knows the stream's secret, whatever the certificates say.
Result<void> prove_both(SSL& ssl, TlsRole role, const std::string& secret, const Clock& clock,
                        int64_t deadline_ns) {
    const auto binding = TRY(session_binding(ssl));
    const auto proof = [&](bool server) {
        return hmac_sha256(secret, (server ? "kumoi tls server" : "kumoi tls client") +
                                       std::string(binding.begin(), binding.end()));
    };
    const std::string ours = proof(role == TlsRole::Server);
    std::string theirs(ours.size(), '\0');
    size_t count = 0;
    TRY(repeat_tls(ssl, clock, deadline_ns,
                   [&] { return SSL_write_ex(&ssl, ours.data(), ours.size(), &count); }));
    // A record is read as it was written: whole.
    TRY(repeat_tls(ssl, clock, deadline_ns,
                   [&] { return SSL_read_ex(&ssl, theirs.data(), theirs.size(), &count); }));
    if (count != theirs.size() || !equal_constant_time(theirs, proof(role == TlsRole::Client))) {
        return Error::forbidden("the other end of a TLS session is not that of the migration");
    }
    return {};
}

}  // namespace

void pump(SSL& ssl, int plain) {
    (void)::fcntl(plain, F_SETFL, ::fcntl(plain, F_GETFL) | O_NONBLOCK);
    Pump(ssl, plain).run();
}

Result<SslPtr> secure_stream(int socket, SSL_CTX& context, TlsRole role, const RelayOrder& order,
                             size_t index, const std::function<bool(const SSL&)>& is_in_kernel) {
    const SystemClock clock;
    const int64_t deadline = clock.monotonic_ns() + order.handshake_ms * kNanosPerMilli;
    const std::string& secret = order.secrets[index];
    TlsPsk psk{"stream", secret, [&](const std::string&) { return std::optional(secret); }};
    const bool with_psk = order.encryption == Encryption::Psk;
    SslPtr ssl = TRY(make_ssl(context, socket, with_psk ? &psk : nullptr,
                              order.kernel ? KernelTls::Try : KernelTls::Never));
    TRY_CONTEXT(shake_hands(*ssl, role, clock, deadline), "the handshake of stream {}", index);
    (void)SSL_set_app_data(ssl.get(), nullptr);
    if (!with_psk) {
        TRY(check_peer_host(*ssl, order.files.hosts));
    }
    TRY(prove_both(*ssl, role, secret, clock, deadline));
    return is_in_kernel(*ssl) ? SslPtr() : std::move(ssl);
}

}  // namespace kumoi::link
