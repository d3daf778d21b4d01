// PortRelays: TCP ports of this host that lead to guests' unix sockets, for proxies on other hosts
// (nova-novncproxy, nova-serialproxy), which reach a console by address and port. A port is opened
// for a key (a server's console) when somebody is granted it, stays the same while it is open, and
// is closed again when nobody was granted it or used it for a while. Whoever reaches the address
// reaches the console, as with QEMU's VNC: the address belongs on a network of the cloud's own.
//
// One thread with a loop of its own relays; open() and port_of() may be called from any.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/event_loop.h"

namespace kumoi::api {

struct PortRelayOptions {
    std::string address = "127.0.0.1";
    uint16_t first_port = 5900;
    uint16_t last_port = 6899;
    int64_t idle_ns = 600 * kNanosPerSecond;  // a port nobody uses or asks for is closed after it
    size_t sessions_max = 64;                 // of one port
};

class PortRelays {
public:
    static std::unique_ptr<PortRelays> start(PortRelayOptions options, const Clock& clock);
    ~PortRelays();
    PortRelays(const PortRelays&) = delete;
    PortRelays& operator=(const PortRelays&) = delete;

    // The port for this key, leading to `socket` from now on. Exhausted: all ports are taken.
    Result<uint16_t> open(const std::string& key, const std::string& socket);
    std::optional<uint16_t> port_of(const std::string& key) const;

private:
    class Relay;
    PortRelays(PortRelayOptions options, const Clock& clock);
    void close_idle();

    const PortRelayOptions options_;
    const Clock& clock_;
    EventLoop loop_;
    mutable std::mutex mutex_;  // guards relays_; each Relay is the loop's, but for its port
    std::map<std::string, std::unique_ptr<Relay>> relays_;
    std::thread thread_;
};

}  // namespace kumoi::api
