// What servers with a thread a connection share: waiting for connections, and joining the threads
// of those that have ended.
#pragma once

#include <functional>
#include <list>
#include <mutex>

#include "base/fd.h"

namespace kumoi::link {

// Accepts until `stop` is readable. `flags` as of accept4(2), besides SOCK_CLOEXEC. `accepted` is
// called after each attempt, with a closed descriptor when it brought none.
void accept_until(const UniqueFd& listener, const UniqueFd& stop, int flags,
                  const std::function<void(UniqueFd socket)>& accepted);

// Takes those that say `ended`, under `mutex`, off the list and joins their `thread`.
template <class Connection>
void join_ended(std::list<Connection>& connections, std::mutex& mutex) {
    std::list<Connection> ended;
    {
        const std::lock_guard lock(mutex);
        for (auto next = connections.begin(); next != connections.end();) {
            const auto one = next++;
            if (one->ended) {
                ended.splice(ended.end(), connections, one);
            }
        }
    }
    for (Connection& connection : ended) {
        connection.thread.join();
    }
}

}  // namespace kumoi::link
