// PassedFiles: the table of descriptors that somebody else opened for this process.

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "hypervisor/sandbox/file_source.h"
#include "hypervisor/sandbox/spare_connections.h"

namespace kumoi::hypervisor {

namespace {

constexpr int kSettableFlags = O_APPEND | O_DIRECT | O_NONBLOCK;

// 0: does not do. The tighter the access, the better.
int fitness(int have, int want) {
    if ((want & O_DSYNC) != 0 && (have & O_DSYNC) == 0) {
        return 0;
    }
    const int same_sync = (have & O_DSYNC) == (want & O_DSYNC) ? 1 : 0;
    if ((have & O_ACCMODE) == (want & O_ACCMODE)) {
        return 3 + same_sync;
    }
    return (have & O_ACCMODE) == O_RDWR ? 1 + same_sync : 0;
}

std::string_view access_name(int flags) {
    switch (flags & O_ACCMODE) {
        case O_RDONLY: return "reading";
        case O_WRONLY: return "writing";
        default: return "reading and writing";
    }
}

Error not_passed(std::string_view what, const std::string& name) {
    return Error::not_found("the sandbox was given no {} {}", what, name)
        .with_hint(
            "only what the configuration names is opened before the sandbox closes; later "
            "ones come as descriptors with their request on the control socket");
}

Result<void> apply_flags(int fd, int have, int want, const std::string& path) {
    const int flags = (have & ~kSettableFlags) | (want & kSettableFlags);
    if (flags != have && ::fcntl(fd, F_SETFL, flags) != 0) {
        return Error::from_errno(errno, fmt::format("setting the flags of {}", path));
    }
    if ((want & O_TRUNC) != 0 && ::ftruncate(fd, 0) != 0) {
        return Error::from_errno(errno, fmt::format("emptying {}", path));
    }
    return {};
}

struct NamedKind {
    std::string_view prefix;
    PassedFiles::Kind kind;
};
constexpr NamedKind kNamedKinds[] = {
    {"/", PassedFiles::Kind::File},           {"tap:", PassedFiles::Kind::Tap},
    {"listen:", PassedFiles::Kind::Listener}, {"connect:", PassedFiles::Kind::Connection},
    {"tcp:", PassedFiles::Kind::TcpListener},
};

int socket_option(int fd, int option) {
    int value = -1;
    socklen_t size = sizeof value;
    return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

Result<void> check_kind(PassedFiles::Kind kind, int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) {
        return Error::from_errno(errno, "looking at it");
    }
    const mode_t mode = status.st_mode;
    switch (kind) {
        case PassedFiles::Kind::File:
            if (!S_ISREG(mode) && !S_ISBLK(mode) && !S_ISCHR(mode)) {
                return Error::invalid("is no file and no device");
            }
            break;
        case PassedFiles::Kind::Tap:
            if (!S_ISCHR(mode)) {
                return Error::invalid("is no TAP device");
            }
            break;
        default:
            // Connections of a migration are TCP ones, too.
            const bool listening = kind != PassedFiles::Kind::Connection;
            const int domain = socket_option(fd, SO_DOMAIN);
            const bool internet = domain == AF_INET || domain == AF_INET6;
            const bool right_family =
                (domain == AF_UNIX && kind != PassedFiles::Kind::TcpListener) ||
                (internet && kind != PassedFiles::Kind::Listener);
            if (!S_ISSOCK(mode) || socket_option(fd, SO_TYPE) != SOCK_STREAM || !right_family ||
                socket_option(fd, SO_ACCEPTCONN) != (listening ? 1 : 0)) {
                return Error::invalid("is no {} stream socket of its family",
                                      listening ? "listening" : "connected");
            }
    }
    return {};
}

}  // namespace

Result<void> PassedFiles::put(Kind kind, std::string name, UniqueFd fd, Keep keep) {
    if (!fd.is_open() || name.empty()) {
        return Error::invalid("a passed descriptor needs a name and must be open");
    }
    if (entries_.size() >= kEntriesMax) {
        return Error::exhausted("{} descriptors wait to be used; {} does not fit", entries_.size(),
                                name);
    }
    entries_.emplace(std::pair(kind, std::move(name)), Entry{std::move(fd), keep, visiting_});
    return {};
}

Result<void> PassedFiles::put_named(const std::string& name, UniqueFd fd) {
    const NamedKind* kind = std::ranges::find_if(kNamedKinds, [&](const NamedKind& candidate) {
        return name.starts_with(candidate.prefix);
    });
    if (kind == std::end(kNamedKinds) || name.size() == kind->prefix.size()) {
        return Error::invalid("\"{}\" is not the name of a descriptor", name)
            .with_hint("an absolute path, tap:INTERFACE, listen:PATH, connect:PATH, tcp:HOST:PORT");
    }
    TRY_CONTEXT(check_kind(kind->kind, fd.get()), "the descriptor named {}", name);
    std::string key = kind->kind == Kind::File ? name : name.substr(kind->prefix.size());
    return put(kind->kind, std::move(key), std::move(fd));
}

void PassedFiles::end_visit() {
    visiting_ = false;
    std::erase_if(entries_, [](const auto& entry) { return entry.second.visitor; });
}

void PassedFiles::forget(Kind kind, const std::string& name) {
    entries_.erase({kind, name});
}

Result<UniqueFd> PassedFiles::take(Entries::iterator entry) {
    if (entry->second.keep == Keep::Always) {
        return entry->second.fd.duplicate();
    }
    UniqueFd fd = std::move(entry->second.fd);
    entries_.erase(entry);
    return fd;
}

Result<UniqueFd> PassedFiles::take_first(Kind kind, const std::string& name,
                                         std::string_view what) {
    const auto found = entries_.lower_bound({kind, name});  // the first that was put
    if (found == entries_.end() || found->first != std::pair(kind, name)) {
        return not_passed(what, name);
    }
    return take(found);
}

Result<UniqueFd> PassedFiles::open(const std::string& path, int flags, unsigned mode) {
    if (otherwise_ != nullptr && !has(Kind::File, path)) {
        return otherwise_->open(path, flags, mode);
    }
    const auto [first, end] = entries_.equal_range({Kind::File, path});
    if (first == end) {
        return not_passed("file", path);
    }
    auto best = end;
    int best_fitness = 0;
    int best_flags = 0;
    for (auto entry = first; entry != end; ++entry) {
        const int have = ::fcntl(entry->second.fd.get(), F_GETFL);
        const int fit = have < 0 || (have & O_PATH) != 0 ? 0 : fitness(have, flags);
        if (fit > best_fitness) {
            best = entry;
            best_fitness = fit;
            best_flags = have;
        }
    }
    if (best == end && otherwise_ != nullptr) {
        return otherwise_->open(path, flags, mode);
    }
    if (best == end) {
        return Error::forbidden("the descriptor passed for {} is not open for {}{}", path,
                                access_name(flags), (flags & O_DSYNC) != 0 ? " with O_DSYNC" : "");
    }
    TRY(apply_flags(best->second.fd.get(), best_flags, flags, path));
    return take(best);
}

Result<UniqueFd> PassedFiles::open_tap(const std::string& interface, bool multi_queue) {
    if (otherwise_ != nullptr && !has(Kind::Tap, interface)) {
        return otherwise_->open_tap(interface, multi_queue);
    }
    return take_first(Kind::Tap, interface, "TAP device");
}

Result<UniqueFd> PassedFiles::listen(const std::string& path, unsigned mode) {
    if (otherwise_ != nullptr && !has(Kind::Listener, path)) {
        return otherwise_->listen(path, mode);
    }
    return take_first(Kind::Listener, path, "listening socket");
}

Result<UniqueFd> PassedFiles::listen_tcp(const std::string& host, uint16_t port) {
    if (otherwise_ != nullptr && !has(Kind::TcpListener, tcp_name(host, port))) {
        return otherwise_->listen_tcp(host, port);
    }
    return take_first(Kind::TcpListener, tcp_name(host, port), "listening socket");
}

Result<UniqueFd> PassedFiles::connect(const std::string& path) {
    if (otherwise_ != nullptr && !has(Kind::Connection, path)) {
        return otherwise_->connect(path);
    }
    return take_first(Kind::Connection, path, "connection to");
}

Result<FileSource::Connector> PassedFiles::connector(const std::string& path) {
    if (otherwise_ != nullptr) {
        auto direct = otherwise_->connector(path);
        if (direct.ok()) {
            // A peer that serves one at a time must not be kept busy by an offer nobody takes.
            return Connector([path, connect = std::move(*direct)] {
                auto offered = take_offered_connection(path);
                return offered.ok() ? std::move(offered) : connect();
            });
        }
    }
    return Connector([path] { return take_offered_connection(path); });
}

Result<FileSource::PortConnector> PassedFiles::port_connector(const std::string& path) {
    if (otherwise_ != nullptr) {
        return otherwise_->port_connector(path);
    }
    return not_passed("way to connect to ports at", path);
}

// The launcher outlives this process and removes the files of its sockets.
void PassedFiles::remove_socket(const std::string& path) {
    if (otherwise_ != nullptr) {
        otherwise_->remove_socket(path);
    }
}

}  // namespace kumoi::hypervisor
