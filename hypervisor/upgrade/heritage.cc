#include "hypervisor/upgrade/heritage.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

namespace {

constexpr size_t kTextMax = 64u << 10;
constexpr size_t kControlSize = CMSG_SPACE(Heritage::kItemsMax * sizeof(int));
constexpr std::string_view kMemory = "memory:";
constexpr std::string_view kTap = "tap:";
constexpr std::string_view kListen = "listen:";
constexpr std::string_view kTcp = "tcp:";

Result<std::vector<Heritage::Item>> items_of(const std::string& text,
                                             std::vector<UniqueFd> descriptors) {
    const Json json = TRY_CONTEXT(Json::parse(text, {kTextMax, 8}), "the list of descriptors");
    const JsonView root(json, "descriptors");
    std::vector<Heritage::Item> items;
    for (const JsonView& one : TRY(root.array("descriptors"))) {
        if (items.size() == descriptors.size()) {
            return Error::corrupt("{} descriptors came, more are named", descriptors.size());
        }
        Heritage::Item item{TRY(one.string("name")), std::move(descriptors[items.size()]), {}};
        if (one.has("offloads")) {
            item.offloads = static_cast<uint32_t>(TRY(one.integer("offloads", {0, UINT16_MAX})));
        }
        items.push_back(std::move(item));
    }
    if (items.size() != descriptors.size()) {
        return Error::corrupt("{} descriptors came, {} are named", descriptors.size(),
                              items.size());
    }
    return items;
}

Result<void> check_memory(int fd) {
    struct stat status {};
    // Only what memfd_create(2) made has seals: never a file of the host.
    if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || ::fcntl(fd, F_GET_SEALS) < 0) {
        return Error::invalid("is no memory file");
    }
    return {};
}

Result<void> check_tap(int fd, std::string_view interface) {
    ifreq request{};
    if (::ioctl(fd, TUNGETIFF, &request) != 0) {
        return Error::invalid("is no queue of a TAP device");
    }
    if (std::string_view(request.ifr_name, ::strnlen(request.ifr_name, IFNAMSIZ)) != interface) {
        return Error::invalid("is a queue of another TAP device");
    }
    return {};
}

Result<void> check_listening(int fd) {
    int listening = 0;
    socklen_t size = sizeof listening;
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || listening != 1) {
        return Error::invalid("is no listening socket");
    }
    return {};
}

Result<void> check_tcp_listener(int fd, std::string_view name) {
    TRY(check_listening(fd));
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
        (address.ss_family != AF_INET && address.ss_family != AF_INET6)) {
        return Error::invalid("is no TCP socket");
    }
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address);
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address);
    const bool is_v4 = address.ss_family == AF_INET;
    ::inet_ntop(address.ss_family, is_v4 ? static_cast<const void*>(&v4->sin_addr) : &v6->sin6_addr,
                text.data(), text.size());
    if (tcp_name(text.data(), ntohs(is_v4 ? v4->sin_port : v6->sin6_port)) != name) {
        return Error::invalid("listens on another address");
    }
    return {};
}

Result<void> check_unix_listener(int fd, std::string_view path) {
    TRY(check_listening(fd));
    sockaddr_un address{};
    socklen_t size = sizeof address;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
        address.sun_family != AF_UNIX ||
        std::string_view(address.sun_path, ::strnlen(address.sun_path, sizeof address.sun_path)) !=
            path) {
        return Error::invalid("listens on another path");
    }
    return {};
}

}  // namespace

void Heritage::remember(std::string name, int fd) {
    UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy.is_open() || items_.size() >= kItemsMax) {
        log_warn("upgrade", "a descriptor cannot be kept: this machine cannot be upgraded live",
                 {{"name", name}});
        return;
    }
    items_.push_back({std::move(name), std::move(copy), {}});
}

void Heritage::remember_offloads(const std::string& name, uint32_t offloads) {
    for (Item& item : items_) {
        if (item.name == name) {
            item.offloads = offloads;
        }
    }
}

void Heritage::forget(const std::string& name) {
    std::erase_if(items_, [&](const Item& item) { return item.name == name; });
}

Result<void> Heritage::send(int socket) const {
    Json list = Json::array();
    std::vector<int> descriptors;
    for (const Item& item : items_) {
        Json one = Json::object({{"name", item.name}});
        if (item.offloads) {
            one.set("offloads", *item.offloads);
        }
        list.push_back(std::move(one));
        descriptors.push_back(item.fd.get());
    }
    std::string text = Json::object({{"descriptors", std::move(list)}}).dump() + "\n";
    if (descriptors.empty() || text.size() > kTextMax) {
        return Error::internal("{} descriptors, named in {} bytes, cannot be passed on",
                               descriptors.size(), text.size());
    }
    alignas(cmsghdr) std::array<char, kControlSize> control{};
    iovec piece{text.data(), text.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    const size_t bytes = descriptors.size() * sizeof(int);
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(head), descriptors.data(), bytes);
    const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent != static_cast<ssize_t>(text.size())) {
        return Error::from_errno(sent < 0 ? errno : EAGAIN,
                                 "passing descriptors to a newer process");
    }
    return {};
}

Result<std::vector<Heritage::Item>> Heritage::receive(int socket, int64_t timeout_ms) {
    const int64_t deadline = SystemClock().monotonic_ns() + timeout_ms * kNanosPerMilli;
    std::string text;
    std::vector<UniqueFd> descriptors;
    while (text.empty() || text.back() != '\n') {
        if (!TRY(wait_ready(socket, POLLIN, deadline))) {
            return Error::timeout("the older process passed no descriptors in {} ms", timeout_ms);
        }
        std::array<char, 4096> buffer;
        alignas(cmsghdr) std::array<char, kControlSize> control{};
        iovec piece{buffer.data(), buffer.size()};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const ssize_t count = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
        if (count < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (count <= 0) {
            return Error::unavailable("the older process has gone");
        }
        for (UniqueFd& fd : received_descriptors(message)) {
            descriptors.push_back(std::move(fd));
        }
        text.append(buffer.data(), static_cast<size_t>(count));
        if ((message.msg_flags & MSG_CTRUNC) != 0 || text.size() > kTextMax ||
            descriptors.size() > kItemsMax) {
            return Error::too_large("the older process passes too many descriptors");
        }
    }
    return items_of(text, std::move(descriptors));
}

Result<void> Heritage::check(const Item& item) {
    const std::string_view name = item.name;
    const int fd = item.fd.get();
    Result<void> fits;
    if (name.starts_with(kMemory)) {
        fits = check_memory(fd);
    } else if (name.starts_with(kTap)) {
        fits = check_tap(fd, name.substr(kTap.size()));
    } else if (name.starts_with(kListen)) {
        fits = check_unix_listener(fd, name.substr(kListen.size()));
    } else if (name.starts_with(kTcp)) {
        fits = check_tcp_listener(fd, name.substr(kTcp.size()));
    } else if (name.starts_with('/')) {
        struct stat named {};
        struct stat passed {};
        const bool same = ::stat(item.name.c_str(), &named) == 0 && ::fstat(fd, &passed) == 0 &&
                          S_ISREG(passed.st_mode) && named.st_dev == passed.st_dev &&
                          named.st_ino == passed.st_ino;
        if (!same) {
            fits = Error::invalid("is another file");
        }
    } else if (!name.starts_with(kKeptPrefix)) {
        fits = Error::invalid("is nothing that a machine is made of");
    }
    return fits.ok() ? fits : Result<void>(Error(fits.error()).with_context(item.name));
}

Result<UniqueFd> Heritage::memory(const std::string& name, uint64_t size) {
    UniqueFd file = take(name);
    if (!file.is_open()) {
        file = UniqueFd(::memfd_create("kumoi-memory", MFD_CLOEXEC));
        if (!file.is_open() || ::ftruncate(file.get(), static_cast<off_t>(size)) != 0) {
            return Error::from_errno(errno, "making " + name);
        }
    }
    struct stat status {};
    if (::fstat(file.get(), &status) != 0 || static_cast<uint64_t>(status.st_size) != size) {
        return Error::invalid("{} has {} bytes in the older process; this machine's has {}", name,
                              status.st_size, size);
    }
    remember(name, file.get());
    return file;
}

UniqueFd Heritage::take(const std::string& name) {
    for (Item& item : inherited_) {
        if (item.name == name && item.fd.is_open()) {
            return std::move(item.fd);
        }
    }
    return {};
}

bool Heritage::inherited(const std::string& name) const {
    return std::ranges::any_of(inherited_, [&](const Item& item) { return item.name == name; });
}

std::vector<std::string> Heritage::inherited_sockets() const {
    std::vector<std::string> paths;
    for (const Item& item : inherited_) {
        if (item.name.starts_with(kListen)) {
            paths.push_back(item.name.substr(kListen.size()));
        }
    }
    return paths;
}

void Heritage::close_rest() {
    for (Item& item : inherited_) {
        item.fd.reset();
    }
}

std::optional<uint32_t> Heritage::inherited_offloads(const std::string& name) const {
    for (const Item& item : inherited_) {
        if (item.name == name) {
            return item.offloads;
        }
    }
    return std::nullopt;
}

}  // namespace kumoi::hypervisor
