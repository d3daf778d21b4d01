// SecureChannel: TLS 1.3 with one pre-shared key over a connected socket, and nothing else: no
// certificates, no other version, no session tickets. Who does not know the key learns nothing and
// is turned away in the handshake; recorded traffic stays secret when the key leaks later (the key
// exchange is ephemeral). One thread at a time, but for interrupt().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

namespace kumoi::transfer {

constexpr size_t kSecretSize = 32;

struct ChannelTimeouts {
    int64_t handshake_ms = 10'000;  // as a whole: a peer that trickles is cut off too
    int64_t idle_ms = 60'000;       // of one read or write
};

class SecureChannel {
public:
    // The secret of an identity; nothing: nobody of that name.
    using FindSecret = std::function<std::optional<std::string>(const std::string& identity)>;

    static Result<std::unique_ptr<SecureChannel>> connect(UniqueFd socket,
                                                          const std::string& identity,
                                                          const std::string& secret,
                                                          const Clock& clock,
                                                          ChannelTimeouts timeouts = {});
    static Result<std::unique_ptr<SecureChannel>> accept(UniqueFd socket, FindSecret find,
                                                         const Clock& clock,
                                                         ChannelTimeouts timeouts = {});
    virtual ~SecureChannel() = default;

    virtual const std::string& identity() const = 0;  // of the client
    // At least one byte; none when the peer has ended the stream properly. Unavailable: cut.
    virtual Result<size_t> read(std::span<std::byte> bytes) = 0;
    virtual Result<void> write(std::span<const std::byte> bytes) = 0;
    Result<void> write(std::string_view text) { return write(std::as_bytes(std::span(text))); }
    // From any thread: what waits returns with an error, now and from then on.
    virtual void interrupt() = 0;
};

}  // namespace kumoi::transfer
