// FolderServer: gives folders of this host to other hosts that know an offer's key, each only the
// files of its own offer, and only to read. The folders do not change while they are offered. An
// offer can be fetched in pieces, over as many connections as it takes, until it is withdrawn.
//
// Threads: offer() and withdraw() from any; one thread accepts, one more serves each connection.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "migration/transfer/secure_channel.h"

namespace kumoi::transfer {

struct FolderServerOptions {
    std::string address = "127.0.0.1";
    uint16_t port_first = 0;  // 0: any free one
    uint16_t port_last = 0;
    size_t connections_max = 16;
    ChannelTimeouts timeouts;
};

struct FolderOffer {
    std::string identity;  // what the client calls it
    std::string secret;    // kSecretSize bytes
    std::string folder;
    std::vector<std::string> files;  // plain names in it
};

class FolderServer {
public:
    // Listens on the first free port of the range; `preferred` first, if it is not 0.
    static Result<std::unique_ptr<FolderServer>> start(FolderServerOptions options,
                                                       const Clock& clock, uint16_t preferred = 0);
    ~FolderServer();

    uint16_t port() const { return port_; }
    // Again: takes the place of the one before.
    void offer(FolderOffer offer);
    // Connections that are being served are cut. Unknown is fine.
    void withdraw(const std::string& identity);
    size_t connection_count() const;

private:
    struct Connection {
        std::thread thread;
        SecureChannel* channel = nullptr;  // once the handshake is done, until the end
        std::string identity;
        bool ended = false;
    };
    FolderServer(FolderServerOptions options, const Clock& clock, UniqueFd listener, uint16_t port,
                 UniqueFd stop);
    void accept_all();
    void take(UniqueFd socket);
    void serve(UniqueFd socket, Connection& connection);
    Result<void> serve_offer(SecureChannel& channel, const FolderOffer& offer);

    const FolderServerOptions options_;
    const Clock& clock_;
    const UniqueFd listener_;
    const uint16_t port_;
    const UniqueFd stop_;
    mutable std::mutex mutex_;  // guards all below
    std::map<std::string, std::shared_ptr<const FolderOffer>> offers_;
    std::list<Connection> connections_;
    bool stopping_ = false;
    std::thread acceptor_;  // last: it uses all the others
};

}  // namespace kumoi::transfer
