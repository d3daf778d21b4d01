#include "migration/postcopy/peer_source.h"

#include "hypervisor/snapshot/format.h"
#include "migration/stream/page_frame.h"

namespace kumoi::migration {

using hypervisor::snapshot::kBlockPages;

PeerSource::PeerSource(std::vector<std::unique_ptr<StreamSocket>> streams, uint64_t memory_size)
    : memory_size_(memory_size) {
    reconnect(std::move(streams));
}

void PeerSource::reconnect(std::vector<std::unique_ptr<StreamSocket>> streams) {
    disconnect();
    const std::lock_guard lock(mutex_);
    ++generation_;
    streams_.clear();
    for (auto& socket : streams) {
        streams_.push_back({std::move(socket), false});
    }
    changed_.notify_all();
}

void PeerSource::disconnect() {
    const std::lock_guard lock(mutex_);
    for (const Stream& stream : streams_) {
        stream.socket->stop();
    }
    streams_.clear();
    changed_.notify_all();
}

void PeerSource::stop() {
    disconnect();
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
}

Result<size_t> PeerSource::take_stream(std::shared_ptr<StreamSocket>& socket,
                                       uint64_t& generation) {
    std::unique_lock lock(mutex_);
    for (;;) {
        if (stopped_ || streams_.empty()) {
            return Error::unavailable("there is no connection to where the guest's memory is");
        }
        for (size_t index = 0; index < streams_.size(); ++index) {
            if (!streams_[index].busy) {
                streams_[index].busy = true;
                socket = streams_[index].socket;
                generation = generation_;
                return index;
            }
        }
        changed_.wait(lock);
    }
}

void PeerSource::give_back(size_t index, uint64_t generation, bool works) {
    const std::lock_guard lock(mutex_);
    if (generation != generation_ || index >= streams_.size()) {
        return;  // it has been replaced
    }
    if (works) {
        streams_[index].busy = false;
    } else {  // the connections of a migration come and go together
        for (const Stream& stream : streams_) {
            stream.socket->stop();
        }
        streams_.clear();
    }
    changed_.notify_all();
}

Result<uint16_t> PeerSource::read_block(uint64_t block, std::span<std::byte> out) {
    std::shared_ptr<StreamSocket> socket;
    uint64_t generation = 0;
    const size_t index = TRY(take_stream(socket, generation));
    auto present = ask(*socket, block, out);
    give_back(index, generation, present.ok());
    return present;
}

Result<uint16_t> PeerSource::ask(StreamSocket& socket, uint64_t block, std::span<std::byte> out) {
    FrameHeader request;
    request.type = FrameType::Request;
    request.number = block;
    const auto asked = request.encode();
    TRY(socket.send(std::span(asked)));
    std::array<std::byte, FrameHeader::kSize> bytes;
    TRY(socket.receive(std::span(bytes)));
    const FrameHeader header = TRY(FrameHeader::decode(bytes));
    std::vector<std::byte> table(header.runs * kRunSize);
    TRY(socket.receive(std::span(table)));
    const auto runs = TRY(decode_runs(table, memory_size_ / kPage));
    const uint64_t first = block * kBlockPages;
    const uint64_t count = out.size() / kPage;
    uint16_t present = 0;
    std::vector<iovec> vectors;
    for (const PageRun& run : runs) {
        if (run.first < first || run.first + run.count > first + count ||
            run.kind != RunKind::Data) {
            return Error::make(ErrorCode::Corrupt, "other pages came than those of block {}",
                               block);
        }
        const uint64_t at = run.first - first;
        vectors.push_back({out.data() + at * kPage, run.count * kPage});
        for (uint64_t page = at; page < at + run.count; ++page) {
            present |= static_cast<uint16_t>(1u << page);
        }
    }
    if (header.type != FrameType::Pages || header.compressed ||
        header.payload != data_pages(runs) * kPage) {
        return Error::make(ErrorCode::Corrupt, "the answer for block {} is none", block);
    }
    TRY(socket.receive(std::span(vectors)));
    return present;
}

}  // namespace kumoi::migration
