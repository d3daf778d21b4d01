#include "hypervisor/control/control_server.h"

namespace kumoi::hypervisor {

Result<std::unique_ptr<ControlServer>> ControlServer::listen(EventLoop& loop, FileSource& files,
                                                             const std::string& path,
                                                             Handler handler) {
    std::unique_ptr<ControlServer> server(new ControlServer(std::move(handler)));
    ControlServer* self = server.get();
    StreamServer::Options options;
    options.clients_max = kClientsMax;
    options.output_max = kOutputMax;
    server->server_ =
        TRY_CONTEXT(StreamServer::listen(
                        loop, files, path, options,
                        {.connected = {},
                         .received = [self](StreamServer::ClientId id,
                                            std::string_view bytes) { self->received(id, bytes); },
                         .closed =
                             [self](StreamServer::ClientId id) {
                                 self->buffers_.erase(id);
                                 self->subscribers_.erase(id);
                             }}),
                    "control socket");
    return server;
}

void ControlServer::received(StreamServer::ClientId id, std::string_view bytes) {
    const auto appended = buffers_[id].append(bytes);
    for (;;) {
        // Serving may cut the client off, which takes its buffer away: look it up each time.
        const auto found = buffers_.find(id);
        if (found == buffers_.end()) {
            return;
        }
        const auto line = found->second.next_line();
        if (!line) {
            break;
        }
        if (!line->empty()) {
            serve_line(id, *line);
        }
    }
    if (!appended) {
        server_->send(id, control_error_line(Json(), appended.error()));
        server_->drop(id);
        buffers_.erase(id);
        subscribers_.erase(id);
    }
}

void ControlServer::serve_line(StreamServer::ClientId id, const std::string& line) {
    const auto request = parse_control_request(line);
    if (!request) {
        server_->send(id, control_error_line(Json(), request.error()));
        return;
    }
    if (request->method == "subscribe") {
        subscribers_.insert(id);
        server_->send(id, control_result_line(request->id, Json::object()));
        return;
    }
    const Result<Json> answer = handler_(*request);
    server_->send(id, answer ? control_result_line(request->id, *answer)
                             : control_error_line(request->id, answer.error()));
}

void ControlServer::publish(const ControlEvent& event) {
    const std::string line = control_event_line(event);
    const std::set<StreamServer::ClientId> subscribers = subscribers_;  // send() may remove some
    for (const StreamServer::ClientId id : subscribers) {
        server_->send(id, line);
    }
}

}  // namespace kumoi::hypervisor
