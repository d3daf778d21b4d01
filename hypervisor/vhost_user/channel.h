// MessageChannel: whole vhost-user messages over a Unix stream socket, with descriptors beside them
// and a deadline for each.
//
// The peer is hostile until proven otherwise: a wrong version, an oversized payload, more
// descriptors than the protocol knows, a message that does not come in time are errors, and the
// channel is useless after any of them. Blocks at most `timeout_ms` in a call. One thread at a
// time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/vhost_user/protocol.h"

namespace kumoi::hypervisor::vhost_user {

struct Message {
    uint32_t request = 0;
    uint32_t flags = 0;
    std::vector<std::byte> payload;
    std::vector<UniqueFd> fds;
};

class MessageChannel {
public:
    MessageChannel(UniqueFd socket, int64_t timeout_ms, const Clock& clock)
        : socket_(std::move(socket)), timeout_ms_(timeout_ms), clock_(clock) {}

    Result<void> send(uint32_t request, uint32_t flags, std::span<const std::byte> payload,
                      std::span<const int> fds = {});
    Result<Message> receive();
    int fd() const { return socket_.get(); }

private:
    Result<void> wait(short events, int64_t deadline_ns) const;
    Result<void> read_exactly(std::span<std::byte> bytes, int64_t deadline_ns,
                              std::vector<UniqueFd>& fds);
    Result<size_t> read_some(std::span<std::byte> bytes, std::vector<UniqueFd>& fds);
    int64_t deadline() const;

    UniqueFd socket_;
    const int64_t timeout_ms_;
    const Clock& clock_;
};

}  // namespace kumoi::hypervisor::vhost_user
