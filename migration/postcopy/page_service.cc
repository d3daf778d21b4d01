#include "migration/postcopy/page_service.h"

#include "base/log.h"
#include "hypervisor/snapshot/format.h"
#include "hypervisor/snapshot/job_thread.h"
#include "hypervisor/snapshot/pages.h"
#include "migration/stream/page_frame.h"

namespace kumoi::migration {

using hypervisor::snapshot::kBlockPages;
using hypervisor::snapshot::kBlockSize;

PageService::PageService(std::vector<std::unique_ptr<StreamSocket>> streams,
                         std::span<const std::byte> memory)
    : memory_(memory) {
    for (auto& stream : streams) {
        workers_.push_back({std::move(stream), {}});
    }
    for (Worker& worker : workers_) {
        worker.thread = hypervisor::start_job_thread(
            "mig-serve", [this, stream = worker.stream.get()] { work(*stream); },
            hypervisor::ThreadClass::Migration);
    }
}

PageService::~PageService() {
    for (Worker& worker : workers_) {
        worker.stream->stop();
    }
    for (Worker& worker : workers_) {
        worker.thread.join();
    }
}

void PageService::work(StreamSocket& stream) {
    for (;;) {
        if (auto done = answer(stream); !done) {
            if (!stream.stopped()) {
                log_info("migration", "a stream of pages ended", {{"error", done.error().text()}});
            }
            return;
        }
    }
}

Result<void> PageService::answer(StreamSocket& stream) {
    std::array<std::byte, FrameHeader::kSize> bytes;
    TRY(stream.receive(std::span(bytes)));
    const FrameHeader request = TRY(FrameHeader::decode(bytes));
    const uint64_t blocks = (memory_.size() + kBlockSize - 1) / kBlockSize;
    if (request.type != FrameType::Request || request.number >= blocks) {
        return Error::make(ErrorCode::Corrupt, "block {} was asked for, of {}", request.number,
                           blocks);
    }
    const uint64_t offset = request.number * kBlockSize;
    const auto block = memory_.subspan(offset, std::min(kBlockSize, memory_.size() - offset));
    const uint16_t present = hypervisor::snapshot::present_pages(block);
    std::vector<PageRun> runs;
    std::vector<iovec> vectors(2);
    hypervisor::snapshot::for_each_run(present, [&](unsigned first, unsigned count) {
        runs.push_back({request.number * kBlockPages + first, count, RunKind::Data});
        vectors.push_back({const_cast<std::byte*>(block.data()) + first * kPage, count * kPage});
    });
    FrameHeader header;
    header.runs = static_cast<uint16_t>(runs.size());
    header.payload = data_pages(runs) * static_cast<uint32_t>(kPage);
    std::vector<std::byte> table;
    encode_runs(runs, table);
    auto head = header.encode();
    vectors[0] = {head.data(), head.size()};
    vectors[1] = {table.data(), table.size()};
    return stream.send(std::span(vectors));
}

}  // namespace kumoi::migration
