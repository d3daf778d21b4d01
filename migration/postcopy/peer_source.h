// PeerSource: guest memory that is still on the other side: each block is asked for over a data
// stream, by whoever needs it now (hypervisor/snapshot/page_server.h).
//
// A broken connection fails what is asked for, until reconnect() brings new ones. Blocks are asked
// for on as many streams as there are at a time: with two a fault does not wait for the filler.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "hypervisor/snapshot/snapshot_reader.h"
#include "migration/stream/stream_socket.h"

namespace kumoi::migration {

class PeerSource final : public hypervisor::BlockSource {
public:
    PeerSource(std::vector<std::unique_ptr<StreamSocket>> streams, uint64_t memory_size);

    uint64_t memory_size() const override { return memory_size_; }
    Result<uint16_t> read_block(uint64_t block, std::span<std::byte> out) override;
    void stop() override;
    void reconnect(std::vector<std::unique_ptr<StreamSocket>> streams);  // any thread
    // Whoever asks on these gets an error now.
    void disconnect();

private:
    struct Stream {
        std::shared_ptr<StreamSocket> socket;  // with who is asking on it
        bool busy = false;
    };
    Result<size_t> take_stream(std::shared_ptr<StreamSocket>& socket, uint64_t& generation);
    void give_back(size_t index, uint64_t generation, bool works);
    Result<uint16_t> ask(StreamSocket& socket, uint64_t block, std::span<std::byte> out);

    const uint64_t memory_size_;
    std::mutex mutex_;  // guards all below
    std::condition_variable changed_;
    std::vector<Stream> streams_;
    uint64_t generation_ = 0;  // of connections
    bool stopped_ = false;
};

}  // namespace kumoi::migration
