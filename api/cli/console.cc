#include "api/cli/console.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace kumoi::cli {
namespace {

constexpr char kEscape = '\x1d';  // Ctrl-]

// The terminal in raw mode, given back as it was.
class RawTerminal {
public:
    explicit RawTerminal(int fd) : fd_(fd) {
        if (isatty(fd_) == 1 && tcgetattr(fd_, &saved_) == 0) {
            termios raw = saved_;
            cfmakeraw(&raw);
            active_ = tcsetattr(fd_, TCSANOW, &raw) == 0;
        }
    }
    ~RawTerminal() {
        if (active_) {
            tcsetattr(fd_, TCSADRAIN, &saved_);
        }
    }
    RawTerminal(const RawTerminal&) = delete;
    RawTerminal& operator=(const RawTerminal&) = delete;
    bool active() const { return active_; }

private:
    int fd_;
    termios saved_{};
    bool active_ = false;
};

// Bytes read; 0 at the end.
size_t read_some(int fd, std::span<std::byte> buffer) {
    for (;;) {
        const ssize_t count = read(fd, buffer.data(), buffer.size());
        if (count >= 0 || errno != EINTR) {
            return count > 0 ? static_cast<size_t>(count) : 0;
        }
    }
}

// Copies in both directions until one side ends. True: the user left, false: the guest did.
Result<bool> copy(int guest, bool raw) {
    std::array<std::byte, 4096> buffer;
    bool input_open = true;
    for (;;) {
        std::array<pollfd, 2> watched{
            {{guest, POLLIN, 0}, {input_open ? STDIN_FILENO : -1, POLLIN, 0}}};
        if (poll(watched.data(), watched.size(), -1) < 0) {
            if (errno == EINTR) {
                continue;
            }
            return Error::from_errno(errno, "waiting for the console");
        }
        if (watched[0].revents != 0) {
            const size_t count = read_some(guest, buffer);
            if (count == 0) {
                return false;
            }
            TRY(write_all(STDOUT_FILENO, std::span(buffer).first(count)));
        }
        if (watched[1].revents != 0) {
            const size_t count = read_some(STDIN_FILENO, buffer);
            const void* escape = raw ? std::memchr(buffer.data(), kEscape, count) : nullptr;
            if (escape != nullptr) {
                return true;
            }
            input_open = count > 0;
            if (!input_open && raw) {
                return true;
            }
            TRY(write_all(guest, std::span(buffer).first(count)));
        }
    }
}

}  // namespace

Result<UniqueFd> connect_unix(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) {
        return Error::too_large("The socket path {} has {} bytes, at most {} are possible.", path,
                                path.size(), sizeof(address.sun_path) - 1);
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.is_open()) {
        return Error::from_errno(errno, "making a socket");
    }
    if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        return Error::from_errno(errno, path);
    }
    return fd;
}

Result<void> attach_console(const Output& out, const std::string& socket_path) {
    const UniqueFd guest = TRY(connect_unix(socket_path));
    bool left = false;
    {
        const RawTerminal terminal(STDIN_FILENO);
        if (terminal.active()) {
            out.say("Connected. Ctrl-] leaves.\r");
        }
        left = TRY(copy(guest.get(), terminal.active()));
    }
    out.say(left ? "\nLeft the console; the guest runs on." : "\nThe guest closed its console.");
    return {};
}

}  // namespace kumoi::cli
