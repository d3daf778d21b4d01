#include "hypervisor/console/console_socket.h"

namespace kumoi::hypervisor {

Result<std::unique_ptr<ConsoleSocket>> ConsoleSocket::listen(EventLoop& loop, FileSource& files,
                                                             const std::string& path,
                                                             SerialConsole& console) {
    std::unique_ptr<ConsoleSocket> socket(new ConsoleSocket(console));
    ConsoleSocket* self = socket.get();
    StreamServer::Options options;
    options.clients_max = kReadersMax;
    options.output_max = kOutputMax;
    socket->server_ =
        TRY_CONTEXT(StreamServer::listen(
                        loop, files, path, options,
                        {.connected = [self](StreamServer::ClientId id) { self->connected(id); },
                         .received = [self](StreamServer::ClientId id,
                                            std::string_view bytes) { self->received(id, bytes); },
                         .closed = [self](StreamServer::ClientId id) { self->closed(id); }}),
                    "serial console");
    return socket;
}

ConsoleSocket::~ConsoleSocket() {
    for (const auto& [client, listener] : listeners_) {
        console_.remove_listener(listener);
    }
}

void ConsoleSocket::connected(StreamServer::ClientId id) {
    const auto listener =
        console_.add_listener([this, id](std::string_view bytes) { server_->send(id, bytes); });
    if (!server_->has(id)) {  // the scrollback was already too much for it
        console_.remove_listener(listener);
        return;
    }
    listeners_.emplace(id, listener);
}

void ConsoleSocket::received(StreamServer::ClientId id, std::string_view bytes) {
    if (!writer_) {
        writer_ = id;
    }
    if (writer_ == id) {
        console_.input(bytes);
    }
}

void ConsoleSocket::closed(StreamServer::ClientId id) {
    if (const auto found = listeners_.find(id); found != listeners_.end()) {
        console_.remove_listener(found->second);
        listeners_.erase(found);
    }
    if (writer_ == id) {
        writer_.reset();
    }
}

}  // namespace kumoi::hypervisor
