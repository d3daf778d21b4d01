// ConsoleSocket: a guest's serial console on a unix socket. Everybody who connects reads (first the
// scrollback, then live); the first to send a byte becomes the writer until it disconnects, and
// what others type is ignored. A reader that does not keep up is dropped. Loop thread only.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "hypervisor/console/serial_console.h"
#include "hypervisor/console/stream_server.h"

namespace kumoi::hypervisor {

class ConsoleSocket {
public:
    static constexpr size_t kReadersMax = 32;
    static constexpr size_t kOutputMax = 256u << 10;  // bytes a reader may lag behind

    static Result<std::unique_ptr<ConsoleSocket>> listen(EventLoop& loop, FileSource& files,
                                                         const std::string& path,
                                                         SerialConsole& console);
    ~ConsoleSocket();
    size_t reader_count() const { return server_->client_count(); }
    uint64_t dropped_count() const { return server_->dropped_count(); }

private:
    explicit ConsoleSocket(SerialConsole& console) : console_(console) {}
    void connected(StreamServer::ClientId id);
    void received(StreamServer::ClientId id, std::string_view bytes);
    void closed(StreamServer::ClientId id);

    SerialConsole& console_;
    std::map<StreamServer::ClientId, SerialConsole::ListenerId> listeners_;
    std::optional<StreamServer::ClientId> writer_;
    std::unique_ptr<StreamServer> server_;
};

}  // namespace kumoi::hypervisor
