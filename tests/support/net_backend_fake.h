// BackendInMemory: a NetBackend for tests: frames that arrive and frames that were sent are lists.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "hypervisor/net/net_backend.h"

namespace kumoi::hypervisor {

class BackendInMemory final : public NetBackend {
public:
    BackendInMemory() : readable_(make_eventfd().value()) {}
    std::string name() const override { return "memory"; }
    NetOffloads supported() const override { return can; }
    Result<void> set_offloads(const NetOffloads& offloads) override {
        asked = offloads;
        return {};
    }
    Result<void> set_active(bool on) override {
        active = on;
        return {};
    }
    int poll_fd() const override { return readable_.get(); }
    int vhost_fd() const override { return vhost; }
    int64_t receive(std::span<const iovec> vectors) override {
        if (incoming.empty()) {
            return -EAGAIN;
        }
        const std::string frame = incoming.front();
        incoming.pop_front();
        size_t done = 0;
        for (const iovec& vector : vectors) {
            const size_t part = std::min(vector.iov_len, frame.size() - done);
            std::memcpy(vector.iov_base, frame.data() + done, part);
            done += part;
        }
        return static_cast<int64_t>(done);
    }
    int64_t send(std::span<const iovec> vectors) override {
        if (full) {
            return -EAGAIN;
        }
        std::string frame;
        for (const iovec& vector : vectors) {
            frame.append(static_cast<const char*>(vector.iov_base), vector.iov_len);
        }
        sent.push_back(frame);
        return static_cast<int64_t>(frame.size());
    }
    void arrive(size_t payload, char fill, char flags = 0) {
        std::string frame(12, '\0');
        frame[0] = flags;
        incoming.push_back(frame + std::string(payload, fill));
        const uint64_t one = 1;
        [[maybe_unused]] const auto count = ::write(readable_.get(), &one, sizeof(one));
    }
    void arrive(const std::string& frame) {
        arrive(0, 0);
        incoming.back() += frame;
    }

    NetOffloads can{.checksum = true, .tso4 = true, .tso6 = true, .ufo = true, .uso = true};
    NetOffloads asked;
    std::deque<std::string> incoming;
    std::vector<std::string> sent;
    bool full = false;
    bool active = true;
    int vhost = -1;

private:
    UniqueFd readable_;  // stays readable: level triggered, like a TAP with a frame
};

// Owned from now on.
inline std::vector<std::unique_ptr<NetBackend>> backends_of(
    std::initializer_list<BackendInMemory*> backends) {
    std::vector<std::unique_ptr<NetBackend>> owned;
    for (BackendInMemory* backend : backends) {
        owned.emplace_back(backend);
    }
    return owned;
}

}  // namespace kumoi::hypervisor
