// ControlServer: the control socket of a kumoi-vmm: reads requests, calls the handler, answers, and
// sends events to subscribers. Many clients; one that sends rubbish gets an error, one that sends
// an endless line or does not read is cut off, and nobody else notices. Loop thread only.
//
// Descriptors that come with a request are put into the PassedFiles table under the names that
// "fds" gives before the handler runs; what it has not taken is closed when it returns.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "hypervisor/console/stream_server.h"
#include "hypervisor/control/protocol.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

class ControlServer {
public:
    static constexpr size_t kClientsMax = 64;
    static constexpr size_t kOutputMax = 4u << 20;  // bytes of answers and events a client may owe

    // Answers one method. "subscribe" is answered here and not passed on.
    using Handler = std::function<Result<Json>(const ControlRequest& request)>;
    // Takes methods whose answer comes later, by calling the function once; false: not one of them.
    using Answer = std::function<void(const Result<Json>&)>;
    using DeferredHandler =
        std::function<bool(const ControlRequest& request, const Answer& answer)>;

    static Result<std::unique_ptr<ControlServer>> listen(EventLoop& loop, FileSource& files,
                                                         const std::string& path, Handler handler,
                                                         PassedFiles* table = nullptr);
    void set_deferred(DeferredHandler handler) { deferred_ = std::move(handler); }
    void publish(const ControlEvent& event);
    void flush() { server_->flush_all(); }

private:
    ControlServer(Handler handler, PassedFiles* table)
        : handler_(std::move(handler)), table_(table) {}
    void receive_descriptors(StreamServer::ClientId id, std::vector<UniqueFd> descriptors);
    void received(StreamServer::ClientId id, std::string_view bytes);
    void serve_line(StreamServer::ClientId id, const std::string& line);
    // Nothing: the answer comes later.
    std::optional<Result<Json>> serve(StreamServer::ClientId id, const ControlRequest& request);
    std::optional<Result<Json>> handle(StreamServer::ClientId id, const ControlRequest& request);
    void answer(StreamServer::ClientId id, const Json& request_id, const Result<Json>& answer);
    void forget(StreamServer::ClientId id);

    Handler handler_;
    DeferredHandler deferred_;
    PassedFiles* table_;  // null: requests bring no descriptors
    std::map<StreamServer::ClientId, LineBuffer> buffers_;
    std::map<StreamServer::ClientId, std::deque<UniqueFd>> descriptors_;  // not yet named
    std::set<StreamServer::ClientId> subscribers_;
    std::string farewell_;  // the last event of all, once it has been published
    std::unique_ptr<StreamServer> server_;
};

}  // namespace kumoi::hypervisor
