// StreamServer: a listening unix socket and its connections, as the console socket
// and the control socket need them: many clients, bounded output, and a slow or rude client is cut
// off without anybody else noticing. Loop thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

class StreamServer {
public:
    using ClientId = uint64_t;
    struct Options {
        size_t clients_max = 64;
        size_t output_max = 1u << 20;  // bytes waiting for one client; more and it is dropped
        unsigned mode = 0600;          // of the socket file
        bool descriptors = false;      // clients may send some (SCM_RIGHTS)
    };
    struct Handlers {
        std::function<void(ClientId)> connected = {};
        std::function<void(ClientId, std::string_view)> received = {};
        std::function<void(ClientId)> closed = {};  // not called for drop()
        // Those that came with the bytes that received() gets next.
        std::function<void(ClientId, std::vector<UniqueFd>)> descriptors = {};
    };

    // Replaces a socket file that nobody listens on; refuses one that somebody does.
    static Result<std::unique_ptr<StreamServer>> listen(EventLoop& loop, FileSource& files,
                                                        const std::string& path, Options options,
                                                        Handlers handlers);
    ~StreamServer();  // closes all, removes the socket file
    StreamServer(const StreamServer&) = delete;
    StreamServer& operator=(const StreamServer&) = delete;

    // False when the client is gone, or had to be dropped because it does not read.
    bool send(ClientId id, std::string_view bytes);
    void drop(ClientId id);
    bool has(ClientId id) const { return clients_.contains(id); }
    size_t client_count() const { return clients_.size(); }
    uint64_t dropped_count() const { return dropped_; }
    // Gives a client's last answer a chance to leave: writes what the sockets take now.
    void flush_all();

private:
    struct Client {
        UniqueFd fd;
        EventLoop::Watch watch;
        std::string output;
    };
    StreamServer(EventLoop& loop, FileSource& files, std::string path, Options options,
                 Handlers handlers);
    void accept_all();
    void serve(ClientId id, uint32_t events);
    bool read_from(ClientId id);
    bool read_with_descriptors(ClientId id, int fd);
    bool write_to(Client& client);
    void close_client(ClientId id, bool tell);

    EventLoop& loop_;
    FileSource& files_;
    std::string path_;
    Options options_;
    Handlers handlers_;
    UniqueFd listener_;
    EventLoop::Watch watch_;
    std::map<ClientId, std::unique_ptr<Client>> clients_;
    ClientId next_id_ = 1;
    uint64_t dropped_ = 0;
};

}  // namespace kumoi::hypervisor
