// PageService: the source's side of post-copy: the guest runs elsewhere, its memory stands still
// here, and each block is given to whoever asks. One thread a stream. It ends when its streams do.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "base/result.h"
#include "migration/stream/stream_socket.h"

namespace kumoi::migration {

class PageService {
public:
    PageService(std::vector<std::unique_ptr<StreamSocket>> streams,
                std::span<const std::byte> memory);
    ~PageService();  // stops, waits
    PageService(const PageService&) = delete;
    PageService& operator=(const PageService&) = delete;

private:
    struct Worker {
        std::unique_ptr<StreamSocket> stream;
        std::thread thread;
    };
    void work(StreamSocket& stream);
    Result<void> answer(StreamSocket& stream);

    const std::span<const std::byte> memory_;
    std::vector<Worker> workers_;
};

}  // namespace kumoi::migration
