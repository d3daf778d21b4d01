// StreamSocket: one connected stream socket (TCP, unix, or a relay's socketpair) between the two
// kumoi-vmm of a migration. Calls wait until all bytes are through. stop() ends whoever waits, from
// any thread; besides, one thread may send while another receives.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>

#include "base/fd.h"
#include "base/result.h"

namespace kumoi::migration {

class StreamSocket {
public:
    // InvalidArgument: not a connected stream socket.
    static Result<std::unique_ptr<StreamSocket>> adopt(UniqueFd fd);
    StreamSocket(const StreamSocket&) = delete;
    StreamSocket& operator=(const StreamSocket&) = delete;

    // All of them, in order; the vectors are used up. Cancelled after stop(); Unavailable when the
    // connection is gone.
    Result<void> send(std::span<iovec> vectors);
    Result<void> send(std::span<const std::byte> bytes);
    Result<void> receive(std::span<iovec> vectors);
    Result<void> receive(std::span<std::byte> bytes);
    // False: nothing has come within the time.
    Result<bool> wait_readable(int timeout_ms);
    bool writable() const;  // a few bytes can be sent without waiting

    void stop();
    bool stopped() const { return stopped_.load(std::memory_order_acquire); }

private:
    explicit StreamSocket(UniqueFd fd) : fd_(std::move(fd)) {}
    Error gone(std::string_view what, int error) const;

    UniqueFd fd_;
    std::atomic<bool> stopped_{false};
};

}  // namespace kumoi::migration
