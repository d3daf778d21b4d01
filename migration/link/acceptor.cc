#include "migration/link/acceptor.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace kumoi::link {

void accept_until(const UniqueFd& listener, const UniqueFd& stop, int flags,
                  const std::function<void(UniqueFd socket)>& accepted) {
    while (true) {
        std::array<pollfd, 2> entries = {{{listener.get(), POLLIN, 0}, {stop.get(), POLLIN, 0}}};
        if (::poll(entries.data(), entries.size(), -1) < 0 && errno != EINTR) {
            return;
        }
        if (entries[1].revents != 0) {
            return;
        }
        accepted(UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | flags)));
    }
}

}  // namespace kumoi::link
