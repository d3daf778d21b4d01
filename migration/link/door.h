// MigrationDoor: where the connections of live migrations arrive, on a TCP port or a unix socket.
// Each peer proves with its first bytes that it knows the key of a migration that is expected here,
// and is then handed on: streams, all of one round together, to whoever expects the migration;
// questions are answered. Everybody else is turned away: peers that are slow, that know no key,
// that come too often.
//
// Threads: expect(), forget() and port() from any. One thread accepts, one more serves each
// connection until it is handed on; callbacks run on those.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/random.h"
#include "base/result.h"
#include "base/uuid.h"
#include "migration/link/preamble_stream.h"
#include "migration/link/tcp.h"

namespace kumoi::link {

struct DoorOptions {
    ListenRange range;
    std::string unix_path;  // listens there instead, if it is not empty
    Encryption encryption = Encryption::Psk;
    size_t connections_max = 64;  // that have not been handed on
    size_t per_peer_max = 40;     // of one address
    int64_t preamble_ms = 5'000;  // as a whole: a peer that trickles is cut off too
    int64_t silence_ms = 10'000;  // tune_stream()
};

// One connection that has been let in.
struct LinkStream {
    UniqueFd socket;  // non-blocking
    std::string tls_secret;
};

// All streams of one round, in their order.
struct Arrival {
    uint32_t round = 0;
    std::string peer;  // its address; empty: a unix socket
    std::vector<LinkStream> streams;
};

class MigrationDoor {
public:
    struct Expectation {
        std::string key;            // kKeySize bytes
        uint16_t streams_max = 16;  // 0: questions only
        std::function<void(Arrival)> arrived;
        // To a question; both have at most kTextMax bytes.
        std::function<std::string(const std::string& asked)> answer;
    };

    static Result<std::unique_ptr<MigrationDoor>> open(DoorOptions options, Random& random);
    ~MigrationDoor();

    uint16_t port() const { return port_; }  // 0: a unix socket
    // Again: takes the place of the one before.
    void expect(const Uuid& id, Expectation expectation);
    // No callback of it runs once this has returned. Not from a callback. Unknown is fine.
    void forget(const Uuid& id);
    size_t connection_count() const;

private:
    struct Connection {
        std::thread thread;
        std::string peer;
        int socket = -1;  // while it may be interrupted
        bool ended = false;
    };
    using Id = std::array<uint8_t, kIdSize>;
    struct Expected {
        std::shared_ptr<const Expectation> what;
        uint32_t round = 0;  // the newest
        bool complete = false;
        std::string peer;
        std::vector<LinkStream> streams;  // that have come of that round
        size_t come = 0;
        int running = 0;  // callbacks
    };

    MigrationDoor(DoorOptions options, Random& random, UniqueFd listener, uint16_t port,
                  UniqueFd stop);
    void accept_all();
    void take(UniqueFd socket);
    void serve(UniqueFd socket, Connection& connection);
    Result<void> admit(UniqueFd socket, Connection& connection);
    std::optional<std::string> key_of(const Id& id) const;
    bool is_wanted(const Introduction& introduction) const;
    std::optional<Arrival> gather(const Admission& admission, UniqueFd socket,
                                  const std::string& peer);
    void call(const Id& id, const std::function<void(const Expectation&)>& function);

    const DoorOptions options_;
    Random& random_;
    const UniqueFd listener_;
    const uint16_t port_;
    const UniqueFd stop_;
    mutable std::mutex mutex_;  // guards all below
    std::condition_variable idle_;
    std::map<Id, Expected> expected_;
    std::list<Connection> connections_;
    std::thread acceptor_;  // last: it uses all the others
};

}  // namespace kumoi::link
