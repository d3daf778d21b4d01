#include "migration/transfer/secure_channel.h"

#include <sys/socket.h>

#include "migration/link/tls.h"

namespace kumoi::transfer {
namespace {

class TlsChannel final : public SecureChannel {
public:
    TlsChannel(UniqueFd socket, const Clock& clock, ChannelTimeouts timeouts)
        : socket_(std::move(socket)), clock_(clock), timeouts_(timeouts) {}

    Result<void> shake_hands(link::TlsPsk psk, link::TlsRole role) {
        psk_ = std::move(psk);
        context_ = TRY(link::psk_context(role));
        ssl_ = TRY(link::make_ssl(*context_, socket_.get(), &psk_, link::KernelTls::Never));
        const int64_t deadline = clock_.monotonic_ns() + timeouts_.handshake_ms * kNanosPerMilli;
        TRY_CONTEXT(link::shake_hands(*ssl_, role, clock_, deadline),
                    "the handshake of a transfer");
        psk_.secret.clear();
        return {};
    }

    const std::string& identity() const override { return psk_.identity; }

    Result<size_t> read(std::span<std::byte> bytes) override {
        size_t count = 0;
        const auto done =
            repeat([&] { return SSL_read_ex(ssl_.get(), bytes.data(), bytes.size(), &count); });
        if (!done.ok()) {
            return ended_ ? Result<size_t>(0) : Result<size_t>(done.error());
        }
        return count;
    }

    Result<void> write(std::span<const std::byte> bytes) override {
        size_t count = 0;
        return bytes.empty() ? Result<void>() : repeat([&] {
            return SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &count);
        });
    }

    void interrupt() override { (void)::shutdown(socket_.get(), SHUT_RDWR); }

private:
    Result<void> repeat(const std::function<int()>& operation) {
        const int64_t deadline = clock_.monotonic_ns() + timeouts_.idle_ms * kNanosPerMilli;
        return link::repeat_tls(*ssl_, clock_, deadline, operation, &ended_);
    }

    const UniqueFd socket_;
    const Clock& clock_;
    const ChannelTimeouts timeouts_;
    link::TlsPsk psk_;
    link::SslContextPtr context_;
    link::SslPtr ssl_;
    bool ended_ = false;
};

Result<std::unique_ptr<SecureChannel>> make_channel(UniqueFd socket, link::TlsPsk psk,
                                                    link::TlsRole role, const Clock& clock,
                                                    ChannelTimeouts timeouts) {
    link::ignore_broken_pipes();
    auto channel = std::make_unique<TlsChannel>(std::move(socket), clock, timeouts);
    TRY(channel->shake_hands(std::move(psk), role));
    return std::unique_ptr<SecureChannel>(std::move(channel));
}

}  // namespace

Result<std::unique_ptr<SecureChannel>> SecureChannel::connect(UniqueFd socket,
                                                              const std::string& identity,
                                                              const std::string& secret,
                                                              const Clock& clock,
                                                              ChannelTimeouts timeouts) {
    if (identity.empty() || identity.size() > link::kTlsIdentityMax ||
        secret.size() != kSecretSize) {
        return Error::invalid("a transfer's identity has 1 to {} bytes and its secret {}",
                              link::kTlsIdentityMax, kSecretSize);
    }
    return make_channel(std::move(socket), {identity, secret}, link::TlsRole::Client, clock,
                        timeouts);
}

Result<std::unique_ptr<SecureChannel>> SecureChannel::accept(UniqueFd socket, FindSecret find,
                                                             const Clock& clock,
                                                             ChannelTimeouts timeouts) {
    return make_channel(std::move(socket), {{}, {}, std::move(find)}, link::TlsRole::Server, clock,
                        timeouts);
}

}  // namespace kumoi::transfer
