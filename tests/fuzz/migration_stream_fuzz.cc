// Fuzzes the data stream of a migration as the destination reads it: any bytes come over a real
// socket into a small memory. First byte: whether checksums are put right, so that more than the
// header is reached.
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/assert.h"
#include "base/crc32c.h"
#include "migration/stream/page_receiver.h"

using namespace kumoi;
using namespace kumoi::migration;

namespace {

constexpr size_t kMemory = 64 * kPage;
constexpr size_t kGuard = kPage;

// Walks from header to header as their lengths say, and makes each one's checksum right.
void put_right(std::span<std::byte> bytes) {
    constexpr size_t kCheckAt = FrameHeader::kSize - sizeof(uint32_t);
    while (bytes.size() >= FrameHeader::kSize) {
        const uint32_t sum = crc32c(bytes.first(kCheckAt));
        std::memcpy(bytes.data() + kCheckAt, &sum, sizeof sum);
        const auto header = FrameHeader::decode(bytes.first(FrameHeader::kSize));
        if (!header.ok()) {
            return;
        }
        const size_t skip =
            FrameHeader::kSize + header.value().runs * kRunSize + header.value().payload;
        bytes = bytes.subspan(std::min(skip, bytes.size()));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 1 || size > 100'000) {
        return 0;
    }
    std::vector<std::byte> bytes(size - 1);
    if (size > 1) {
        std::memcpy(bytes.data(), data + 1, size - 1);
    }
    if ((data[0] & 1) != 0) {
        put_right(bytes);
    }
    int fds[2];
    KUMOI_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    auto near = StreamSocket::adopt(UniqueFd(fds[0])).value();
    std::vector<std::unique_ptr<StreamSocket>> streams;
    streams.push_back(StreamSocket::adopt(UniqueFd(fds[1])).value());
    std::vector<std::byte> memory(kMemory + 2 * kGuard);
    std::mutex mutex;
    std::condition_variable changed;
    bool ended = false;  // by an error, or by a last round
    PageReceiver receiver(std::move(streams), std::span(memory).subspan(kGuard, kMemory),
                          {.round_done = [&](uint32_t) { changed.notify_all(); },
                           .failed =
                               [&](const Error&) {
                                   const std::lock_guard lock(mutex);
                                   ended = true;
                                   changed.notify_all();
                               }});
    (void)near->send(std::span<const std::byte>(bytes));  // fails when the receiver had enough
    near->stop();
    std::unique_lock lock(mutex);
    while (!ended && !receiver.finished()) {
        changed.wait_for(lock, std::chrono::milliseconds(1));  // finished() is not under our lock
    }
    const auto clean = [](std::span<const std::byte> guard) {
        return std::ranges::all_of(guard, [](std::byte byte) { return byte == std::byte{0}; });
    };
    KUMOI_ASSERT(clean(std::span(memory).first(kGuard)));
    KUMOI_ASSERT(clean(std::span(memory).last(kGuard)));
    return 0;
}
