// MetadataService: serves 169.254.169.254:80 on every bridge of this host. One listening socket per
// bridge, tied to it with SO_BINDTODEVICE, so that the network a request came from is known by the
// socket and overlapping subnets cannot be mixed up. One loop thread does all I/O (with api/http's
// Connection, as the other servers), two workers run the handlers. Everything is bounded:
// connections in all and per guest, requests per guest and second, sizes and times.
//
// bridge_up() and bridge_down() come from any thread and only post to the loop.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "api/http/connection.h"
#include "api/http/server.h"
#include "api/rest/metadata/metadata_router.h"
#include "base/event_loop.h"
#include "base/worker_pool.h"
#include "compute/network/node_network.h"

namespace kumoi::api {

struct MetadataServiceOptions {
    std::string address = "169.254.169.254";
    uint16_t port = 80;
    size_t connections_max = 256;
    size_t connections_per_guest_max = 16;
    int64_t requests_per_second = 50;  // of one guest; a burst of twice that is let through
    compute::MetadataOptions content = {};
};

class MetadataService final : public compute::BridgeListener {
public:
    static Result<std::unique_ptr<MetadataService>> create(const MetadataDependencies& dependencies,
                                                           MetadataServiceOptions options = {});
    ~MetadataService() override;
    MetadataService(const MetadataService&) = delete;
    MetadataService& operator=(const MetadataService&) = delete;

    void bridge_up(const std::string& network_id, const std::string& bridge) override;
    void bridge_down(const std::string& network_id) override;

private:
    struct Listener {
        UniqueFd fd;
        unsigned link_index = 0;  // a bridge made anew under the old name needs a new socket
        EventLoop::Watch watch;
    };
    struct Client {
        UniqueFd fd;
        MetadataPeer peer;
        std::unique_ptr<Connection> connection;
        EventLoop::Watch watch;
    };
    // What one guest may still ask for.
    struct Allowance {
        double tokens = 0;
        int64_t filled_ns = 0;
        size_t connections = 0;
    };

    MetadataService(const MetadataDependencies& dependencies, MetadataServiceOptions options);
    Result<void> listen(const std::string& network_id, const std::string& bridge);
    void accept(const std::string& network_id);
    void add_client(const std::string& network_id, UniqueFd fd);
    void on_events(uint64_t id);
    void pump(uint64_t id);
    void start_requests(uint64_t id, Client& client);
    void run_request(uint64_t id, Connection::Next next);
    bool send_output(Client& client);
    void remove(uint64_t id);
    bool take_token(const MetadataPeer& peer);
    void sweep();
    static std::string key_of(const MetadataPeer& peer) {
        return peer.network_id + " " + peer.address;
    }

    const MetadataDependencies dependencies_;
    const MetadataServiceOptions options_;
    const ServerOptions server_options_;
    const ServerDependencies server_dependencies_;
    const Router router_;
    EventLoop loop_;
    // Loop thread only:
    std::map<std::string, Listener> listeners_;  // by network id
    std::map<uint64_t, Client> clients_;
    std::map<std::string, Allowance> allowances_;  // by guest
    uint64_t next_client_ = 1;

    WorkerPool workers_;
    std::thread thread_;
};

}  // namespace kumoi::api
