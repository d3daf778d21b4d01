// VsockSocketsFake: the host's side of virtio-vsock in memory: what "arrives" at the listener and
// what the guest connects to are ends of socket pairs that the test holds.
#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <set>
#include <vector>

#include "hypervisor/virtio/vsock_sockets.h"

namespace kumoi::hypervisor {

class VsockSocketsFake final : public VsockSockets {
public:
    VsockSocketsFake() : doorbell_(make_eventfd().value()) {}

    // A client of the host connects; returns its end.
    UniqueFd arrive() {
        UniqueFd end;
        arrived_.push_back(pair(end));
        const uint64_t one = 1;
        [[maybe_unused]] const auto count = ::write(doorbell_.get(), &one, sizeof(one));
        return end;
    }

    int listener() const override { return doorbell_.get(); }
    UniqueFd accept() override {
        if (arrived_.empty()) {
            uint64_t count = 0;
            [[maybe_unused]] const auto size = ::read(doorbell_.get(), &count, sizeof(count));
            return {};
        }
        UniqueFd socket = std::move(arrived_.front());
        arrived_.pop_front();
        return socket;
    }
    Result<UniqueFd> connect(uint32_t port) override {
        if (!listening.contains(port)) {
            return Error::not_found("nobody listens on {}", port);
        }
        UniqueFd end;
        UniqueFd ours = pair(end);
        connected[port] = std::move(end);
        return ours;
    }

    std::set<uint32_t> listening;
    std::map<uint32_t, UniqueFd> connected;  // the host's end of the guest's last connection

private:
    static UniqueFd pair(UniqueFd& other) {
        int fds[2] = {-1, -1};
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) {
            return {};
        }
        other.reset(fds[1]);
        return UniqueFd(fds[0]);
    }
    UniqueFd doorbell_;
    std::deque<UniqueFd> arrived_;
};

}  // namespace kumoi::hypervisor
