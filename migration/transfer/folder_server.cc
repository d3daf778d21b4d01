#include "migration/transfer/folder_server.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "migration/link/acceptor.h"
#include "migration/link/tcp.h"
#include "migration/transfer/frame_stream.h"
#include "migration/transfer/manifest.h"
#include "migration/transfer/sparse_file.h"

namespace kumoi::transfer {
namespace {

Result<UniqueFd> open_in(int folder, const std::string& name) {
    UniqueFd file(::openat(folder, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file.is_open()) {
        return Error::from_errno(errno, fmt::format("opening {} for a transfer", name));
    }
    return file;
}

Result<void> send_file(FrameStream& stream, int fd, const ReadRequest& request, uint64_t size) {
    const uint64_t from = std::min(request.offset, size);
    BlockDigest digest;
    TRY(digest.add_file(fd, from));
    BlockReader reader(fd, from, size);
    while (const auto block = TRY(reader.next())) {
        digest.add(block->offset, block->bytes);
        TRY(stream.send(FrameKind::Data, data_body(block->offset, block->bytes)));
    }
    return stream.send(FrameKind::End, end_body({request.file, size, digest.finish()}));
}

}  // namespace

Result<std::unique_ptr<FolderServer>> FolderServer::start(FolderServerOptions options,
                                                          const Clock& clock, uint16_t preferred) {
    UniqueFd listener =
        TRY(link::listen_tcp({options.address, options.port_first, options.port_last, preferred}));
    const uint16_t port = TRY(link::local_port(listener.get()));
    UniqueFd stop = TRY(make_eventfd());
    return std::unique_ptr<FolderServer>(
        new FolderServer(std::move(options), clock, std::move(listener), port, std::move(stop)));
}

FolderServer::FolderServer(FolderServerOptions options, const Clock& clock, UniqueFd listener,
                           uint16_t port, UniqueFd stop)
    : options_(std::move(options)),
      clock_(clock),
      listener_(std::move(listener)),
      port_(port),
      stop_(std::move(stop)),
      acceptor_([this] { accept_all(); }) {}

FolderServer::~FolderServer() {
    const uint64_t one = 1;
    (void)!::write(stop_.get(), &one, sizeof(one));
    acceptor_.join();
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        for (Connection& connection : connections_) {
            if (connection.channel != nullptr) {
                connection.channel->interrupt();
            }
        }
    }
    for (Connection& connection : connections_) {
        connection.thread.join();
    }
}

void FolderServer::offer(FolderOffer offer) {
    const std::lock_guard lock(mutex_);
    const std::string identity = offer.identity;
    offers_[identity] = std::make_shared<const FolderOffer>(std::move(offer));
}

void FolderServer::withdraw(const std::string& identity) {
    const std::lock_guard lock(mutex_);
    offers_.erase(identity);
    for (Connection& connection : connections_) {
        if (connection.channel != nullptr && connection.identity == identity) {
            connection.channel->interrupt();
        }
    }
}

size_t FolderServer::connection_count() const {
    const std::lock_guard lock(mutex_);
    return static_cast<size_t>(
        std::ranges::count_if(connections_, [](const Connection& one) { return !one.ended; }));
}

void FolderServer::accept_all() {
    link::accept_until(listener_, stop_, 0, [this](UniqueFd socket) {
        link::join_ended(connections_, mutex_);
        if (socket.is_open()) {
            take(std::move(socket));
        }
    });
}

// Beyond the limit connections are closed at once: a client tries again.
void FolderServer::take(UniqueFd socket) {
    const int yes = 1;
    (void)::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    const std::lock_guard lock(mutex_);
    if (offers_.empty() || connections_.size() >= options_.connections_max) {
        return;
    }
    Connection& connection = connections_.emplace_back();
    connection.thread = std::thread(
        [this, &connection, fd = socket.release()] { serve(UniqueFd(fd), connection); });
}

void FolderServer::serve(UniqueFd socket, Connection& connection) {
    std::shared_ptr<const FolderOffer> offer;
    const auto find = [&](const std::string& identity) -> std::optional<std::string> {
        const std::lock_guard lock(mutex_);
        const auto found = offers_.find(identity);
        if (found == offers_.end()) {
            return std::nullopt;
        }
        offer = found->second;
        return offer->secret;
    };
    auto channel = SecureChannel::accept(std::move(socket), find, clock_, options_.timeouts);
    if (channel.ok()) {
        bool go = false;
        {
            const std::lock_guard lock(mutex_);
            go = !stopping_ && offers_.contains((*channel)->identity());
            connection.channel = channel->get();
            connection.identity = (*channel)->identity();
        }
        const auto served = go ? serve_offer(**channel, *offer) : Result<void>();
        if (!served.ok()) {
            log_info("transfer", "a transfer stopped; the other host may take it up again",
                     {{"offer", offer->identity}, {"why", served.error().text()}});
        }
    } else {
        log_debug("transfer", "a connection was turned away", {{"why", channel.error().text()}});
    }
    const std::lock_guard lock(mutex_);
    connection.channel = nullptr;
    connection.ended = true;
}

Result<void> FolderServer::serve_offer(SecureChannel& channel, const FolderOffer& offer) {
    FrameStream stream(channel, kRequestBodyMax);
    const UniqueFd folder = TRY(open_file(offer.folder, O_RDONLY | O_DIRECTORY));
    const Manifest manifest = TRY(read_manifest(offer.folder, offer.files));
    TRY(check_hello(TRY(stream.receive())));
    TRY(stream.send(FrameKind::Manifest, manifest.text()));
    while (true) {
        const Frame frame = TRY(stream.receive());
        if (frame.kind == FrameKind::Done) {
            return stream.send(FrameKind::Done);
        }
        const ReadRequest request = TRY(parse_read(frame));
        if (request.file >= manifest.files.size()) {
            return Error::corrupt("file {} of {} is asked for", request.file,
                                  manifest.files.size());
        }
        const ManifestFile& file = manifest.files[request.file];
        const UniqueFd source = TRY(open_in(folder.get(), file.name));
        auto sent = send_file(stream, source.get(), request, file.size);
        if (!sent.ok()) {
            (void)stream.send(FrameKind::Failure, sent.error().message);
            return sent;
        }
    }
}

}  // namespace kumoi::transfer
