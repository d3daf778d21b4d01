// TLS between the connections of a migration and a process that knows nothing of TLS. The kernel
// encrypts where it can (kTLS): that process then gets the connection itself. Otherwise it gets one
// end of a socket pair, and a relay process of its own (kumoi-relay) pumps between the other end
// and the connection for as long as both last, whatever becomes of the one that started it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "migration/link/door.h"
#include "migration/link/tls.h"

namespace kumoi::link {

struct RelayOptions {
    std::string program;  // kumoi-relay
    TlsFiles files;       // with Encryption::Certificates
    bool kernel = true;   // may encrypt
    int64_t handshake_ms = 10'000;
};

// What the relay process is told, as one line of JSON with the sockets of all streams beside it,
// each followed by an end of a socket pair.
struct RelayOrder {
    TlsRole role = TlsRole::Client;
    Encryption encryption = Encryption::Psk;
    TlsFiles files;
    bool kernel = true;
    int64_t handshake_ms = 10'000;
    std::vector<std::string> secrets;  // one a stream

    std::string text() const;
    static Result<RelayOrder> parse(const std::string& text);
};

// Plain streams for those that have been let in, in their order. Encryption::None: they themselves.
// Blocks until all handshakes are done.
Result<std::vector<UniqueFd>> secure_streams(std::vector<LinkStream> streams, TlsRole role,
                                             Encryption encryption, const RelayOptions& options);

// The other side of it, for kumoi-relay: takes one order from the socket, does the handshakes,
// reports, and pumps until all streams have ended. `ready`: called between the two, to give up
// rights.
Result<void> run_relay(int order_socket, const std::function<Result<void>()>& ready);

// One TLS session set up between `socket` and its peer, both proving the stream's secret over it.
// Returns it, or nothing when the kernel has taken over.
Result<SslPtr> secure_stream(int socket, SSL_CTX& context, TlsRole role, const RelayOrder& order,
                             size_t index, const std::function<bool(const SSL&)>& is_in_kernel);
// Pumps until both directions have ended or one side breaks. Both sockets non-blocking.
void pump(SSL& ssl, int plain);

}  // namespace kumoi::link
