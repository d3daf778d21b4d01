// PassedFiles: the table of descriptors that somebody else opened for this process.

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "hypervisor/sandbox/file_source.h"

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

}  // namespace

Result<void> PassedFiles::put(Kind kind, std::string name, UniqueFd fd, Keep keep) {
    if (!fd.is_open() || name.empty()) {
        return Error::invalid("a passed descriptor needs a name and must be open");
    }
    if (entries_.size() >= kEntriesMax) {
        return Error::exhausted("{} descriptors wait to be used; {} does not fit", entries_.size(),
                                name);
    }
    entries_.emplace(std::pair(kind, std::move(name)), Entry{std::move(fd), keep});
    return {};
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

Result<UniqueFd> PassedFiles::open(const std::string& path, int flags, unsigned /*mode*/) {
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
    if (best == end) {
        return Error::forbidden("the descriptor passed for {} is not open for {}{}", path,
                                access_name(flags), (flags & O_DSYNC) != 0 ? " with O_DSYNC" : "");
    }
    TRY(apply_flags(best->second.fd.get(), best_flags, flags, path));
    return take(best);
}

Result<UniqueFd> PassedFiles::open_tap(const std::string& interface, bool /*multi_queue*/) {
    return take_first(Kind::Tap, interface, "TAP device");
}

Result<UniqueFd> PassedFiles::listen(const std::string& path, unsigned /*mode*/) {
    return take_first(Kind::Listener, path, "listening socket");
}

Result<UniqueFd> PassedFiles::listen_tcp(const std::string& host, uint16_t port) {
    return take_first(Kind::TcpListener, tcp_name(host, port), "listening socket");
}

Result<UniqueFd> PassedFiles::connect(const std::string& path) {
    return take_first(Kind::Connection, path, "connection to");
}

// The launcher outlives this process and removes the files of its sockets.
void PassedFiles::remove_socket(const std::string& /*path*/) {}

}  // namespace kumoi::hypervisor
