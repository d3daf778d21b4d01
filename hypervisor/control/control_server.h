// ControlServer: the control socket of a kumoi-vmm: reads requests, calls the handler, answers, and
// sends events to subscribers. Many clients; one that sends rubbish gets an error, one that sends
// an endless line or does not read is cut off, and nobody else notices. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "hypervisor/console/stream_server.h"
#include "hypervisor/control/protocol.h"

namespace kumoi::hypervisor {

class ControlServer {
public:
    static constexpr size_t kClientsMax = 64;
    static constexpr size_t kOutputMax = 4u << 20;  // bytes of answers and events a client may owe

    // Answers one method. "subscribe" is answered here and not passed on.
    using Handler = std::function<Result<Json>(const ControlRequest& request)>;

    static Result<std::unique_ptr<ControlServer>> listen(EventLoop& loop, FileSource& files,
                                                         const std::string& path, Handler handler);
    void publish(const ControlEvent& event);
    void flush() { server_->flush_all(); }

private:
    explicit ControlServer(Handler handler) : handler_(std::move(handler)) {}
    void received(StreamServer::ClientId id, std::string_view bytes);
    void serve_line(StreamServer::ClientId id, const std::string& line);

    Handler handler_;
    std::map<StreamServer::ClientId, LineBuffer> buffers_;
    std::set<StreamServer::ClientId> subscribers_;
    std::unique_ptr<StreamServer> server_;
};

}  // namespace kumoi::hypervisor
