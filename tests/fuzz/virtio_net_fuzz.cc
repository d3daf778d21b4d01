// Fuzzes the network device, both directions. Checks what it promises the host's kernel: a header
// whose every field is inside the frame, and frames of a possible size.

#include "hypervisor/virtio/net.h"

#include <cerrno>
#include <cstring>

#include "tests/fuzz/virtio_device_fuzz.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

void require(bool condition) {
    if (!condition) {
        std::abort();
    }
}

class Backend final : public NetBackend {
public:
    Backend() : fd_(make_eventfd(1).value()) {}
    std::string name() const override { return "memory"; }
    NetOffloads supported() const override { return {true, true, true, true, true}; }
    Result<void> set_offloads(const NetOffloads& offloads) override {
        require(offloads.checksum || offloads == NetOffloads{});
        return {};
    }
    int poll_fd() const override { return fd_.get(); }
    int64_t receive(std::span<const iovec> vectors) override {
        require(vectors.size() <= 1024);
        if (frames_left_ == 0) {
            return -EAGAIN;
        }
        --frames_left_;
        size_t left = 12 + (frames_left_ * 7919) % 9000;
        const size_t size = left;
        for (const iovec& vector : vectors) {
            const size_t part = std::min(left, vector.iov_len);
            std::memset(vector.iov_base, 0, part);
            left -= part;
        }
        return static_cast<int64_t>(size - left);
    }
    int64_t send(std::span<const iovec> vectors) override {
        require(!vectors.empty() && vectors.size() <= 1024);
        require(vectors[0].iov_len == 12);
        uint64_t frame = 0;
        for (const iovec& vector : vectors.subspan(1)) {
            frame += vector.iov_len;
        }
        require(frame >= 14 && frame <= VirtioNet::kFrameBytesMax);
        uint16_t words[6];
        std::memcpy(words, vectors[0].iov_base, 12);
        const auto flags = static_cast<uint8_t>(words[0]);
        const auto gso = static_cast<uint8_t>(words[0] >> 8);
        require(flags <= 1 && words[1] <= frame && words[5] == 0);
        require(flags == 0 || uint64_t{words[3]} + words[4] + 2 <= frame);
        require(gso == 0 || (words[2] != 0 && flags == 1 && gso <= 5 && gso != 2));
        return static_cast<int64_t>(frame + 12);
    }

private:
    UniqueFd fd_;
    size_t frames_left_ = 100;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static PlatformFake platform;
    FuzzInput input(data, size);
    std::vector<std::unique_ptr<NetBackend>> backends;
    const auto shape = input.take<uint8_t>();
    for (unsigned pairs = 1 + shape % 3; pairs > 0; --pairs) {
        backends.push_back(std::make_unique<Backend>());
    }
    VirtioNet device({.name = "net0", .mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .queue_size = 16},
                     std::move(backends));
    if (shape >= 128) {
        const RateLimit limit{.average = uint64_t{shape} << 6};
        require(device.set_limits({.inbound = limit, .outbound = limit}, 0).ok());
    }
    fuzz_device(device, platform, input);
    return 0;
}
