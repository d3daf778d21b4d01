#include "hypervisor/control/control_server.h"

#include <algorithm>
#include <iterator>

namespace kumoi::hypervisor {

namespace {
constexpr std::string_view kFarewell = "exiting";
}  // namespace

Result<std::unique_ptr<ControlServer>> ControlServer::listen(EventLoop& loop, FileSource& files,
                                                             const std::string& path,
                                                             Handler handler, PassedFiles* table) {
    std::unique_ptr<ControlServer> server(new ControlServer(std::move(handler), table));
    ControlServer* self = server.get();
    StreamServer::Options options;
    options.clients_max = kClientsMax;
    options.output_max = kOutputMax;
    options.descriptors = true;  // without a table too: the client is told that they are not wanted
    StreamServer::Handlers handlers;
    handlers.received = [self](StreamServer::ClientId id, std::string_view bytes) {
        self->received(id, bytes);
    };
    handlers.closed = [self](StreamServer::ClientId id) { self->forget(id); };
    handlers.descriptors = [self](StreamServer::ClientId id, std::vector<UniqueFd> descriptors) {
        self->receive_descriptors(id, std::move(descriptors));
    };
    server->server_ = TRY_CONTEXT(
        StreamServer::listen(loop, files, path, options, std::move(handlers)), "control socket");
    return server;
}

void ControlServer::forget(StreamServer::ClientId id) {
    buffers_.erase(id);
    descriptors_.erase(id);
    subscribers_.erase(id);
}

void ControlServer::receive_descriptors(StreamServer::ClientId id,
                                        std::vector<UniqueFd> descriptors) {
    std::deque<UniqueFd>& waiting = descriptors_[id];
    if (waiting.size() + descriptors.size() > kControlFdsMax) {
        server_->send(id, control_error_line(
                              Json(), Error::too_large("more than {} descriptors that no request "
                                                       "has named",
                                                       kControlFdsMax)));
        server_->drop(id);
        forget(id);
        return;
    }
    std::ranges::move(descriptors, std::back_inserter(waiting));
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
        forget(id);
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
        if (!farewell_.empty()) {
            server_->send(id, farewell_);  // who comes late hears it, too
        }
        return;
    }
    if (const auto now = serve(id, *request); now) {
        answer(id, request->id, *now);
    }
}

// A client that has gone meanwhile gets nothing: ids are not used twice.
void ControlServer::answer(StreamServer::ClientId id, const Json& request_id,
                           const Result<Json>& answer) {
    server_->send(id, answer ? control_result_line(request_id, *answer)
                             : control_error_line(request_id, answer.error()));
}

std::optional<Result<Json>> ControlServer::handle(StreamServer::ClientId id,
                                                  const ControlRequest& request) {
    const Answer later = [this, id, request_id = request.id](const Result<Json>& result) {
        answer(id, request_id, result);
    };
    if (deferred_ && deferred_(request, later)) {
        return std::nullopt;
    }
    return handler_(request);
}

// Those that the request names are taken in any case: a refused one must not leave its descriptors
// to the next.
std::optional<Result<Json>> ControlServer::serve(StreamServer::ClientId id,
                                                 const ControlRequest& request) {
    if (request.fds.empty()) {
        return handle(id, request);
    }
    std::vector<UniqueFd> mine;
    std::deque<UniqueFd>& waiting = descriptors_[id];
    while (mine.size() < request.fds.size() && !waiting.empty()) {
        mine.push_back(std::move(waiting.front()));
        waiting.pop_front();
    }
    if (table_ == nullptr) {
        return Error::unsupported("this process takes no descriptors");
    }
    if (mine.size() != request.fds.size()) {
        return Error::invalid("\"fds\" names {} descriptors and {} came", request.fds.size(),
                              mine.size());
    }
    const PassedFiles::Visit visit(*table_);
    for (size_t i = 0; i < mine.size(); ++i) {
        TRY_CONTEXT(table_->put_named(request.fds[i], std::move(mine[i])), "fds[{}]", i);
    }
    return handle(id, request);
}

void ControlServer::publish(const ControlEvent& event) {
    const std::string line = control_event_line(event);
    if (event.name == kFarewell) {
        farewell_ = line;
    }
    const std::set<StreamServer::ClientId> subscribers = subscribers_;  // send() may remove some
    for (const StreamServer::ClientId id : subscribers) {
        server_->send(id, line);
    }
}

}  // namespace kumoi::hypervisor
