// Device-less throughput of the qcow2 engine: random and sequential reads and writes at depth 1 and
// 32 on a file; prints the seconds. qcow2_bench.py runs it beside QEMU on the same file.
//     qcow2_bench FILE read|write random|sequential DEPTH COUNT BLOCK [none]
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/random.h"
#include "hypervisor/block/qcow2/buffer.h"
#include "hypervisor/block/qcow2/qcow2_image.h"

namespace kumoi::hypervisor {
namespace {

class Bench final : public DiskClient {
public:
    Bench(DiskImage& image, DiskOperation operation, bool random, uint64_t block)
        : image_(image), operation_(operation), random_(random), block_(block) {}

    Result<double> run(uint32_t depth, uint64_t count) {
        queue_ = TRY(image_.open_queue(loop_, *this));
        left_ = count;
        buffers_.resize(depth);
        for (uint32_t i = 0; i < depth; ++i) {
            buffers_[i].allocate(block_);
            std::memset(buffers_[i].data(), 0x5a, block_);
        }
        const int64_t begin = clock_.monotonic_ns();
        for (uint32_t i = 0; i < depth; ++i) {
            submit(i);
        }
        queue_->kick();
        loop_.run();
        if (operation_ == DiskOperation::Write) {
            DiskRequest flush;
            flush.operation = DiskOperation::Flush;
            flush.token = UINT32_MAX;
            queue_->submit(flush);
            queue_->drain();
        }
        const int64_t end = clock_.monotonic_ns();
        queue_->drain();
        queue_.reset();
        return failed_ != 0 ? Result<double>(Error::from_errno(-failed_, "a request"))
                            : Result<double>(static_cast<double>(end - begin) / 1e9);
    }

private:
    void disk_completed(uint32_t token, int result) override {
        failed_ = result < 0 ? result : failed_;
        if (token != UINT32_MAX) {
            --pending_;
            ready_.push_back(token);
        }
    }
    // As a virtio device does: the next batch comes by the loop, like a guest's notification.
    void disk_batch_done() override {
        loop_.post([this] { submit_ready(); });
    }
    void submit_ready() {
        std::vector<uint32_t> ready;
        ready.swap(ready_);
        for (const uint32_t token : ready) {
            submit(token);
        }
        if (pending_ == 0) {
            loop_.stop();
        } else if (!ready.empty()) {
            queue_->kick();
        }
    }
    void submit(uint32_t token) {
        if (left_ == 0) {
            return;
        }
        --left_;
        ++pending_;
        const uint64_t blocks = image_.size() / block_;
        DiskRequest request;
        request.operation = operation_;
        request.offset = (random_ ? source_.below(blocks) : next_++ % blocks) * block_;
        request.size = block_;
        request.vectors = {{buffers_[token].data(), block_}};
        request.token = token;
        queue_->submit(request);
    }

    DiskImage& image_;
    const DiskOperation operation_;
    const bool random_;
    const uint64_t block_;
    SystemClock clock_;
    EventLoop loop_{clock_};
    SeededRandom source_{1};
    std::unique_ptr<DiskQueue> queue_;
    std::vector<qcow2::AlignedBuffer> buffers_;
    std::vector<uint32_t> ready_;
    uint64_t left_ = 0;
    uint64_t pending_ = 0;
    uint64_t next_ = 0;
    int failed_ = 0;
};

int run(int argc, char** argv) {
    if (argc < 7) {
        std::fprintf(stderr, "qcow2_bench FILE read|write random|sequential DEPTH COUNT BLOCK\n");
        return 2;
    }
    const bool write = std::string(argv[2]) == "write";
    const uint64_t count = std::strtoull(argv[5], nullptr, 10);
    const uint64_t block = std::strtoull(argv[6], nullptr, 10);
    auto image =
        Qcow2Image::open(direct_files(), {.path = argv[1],
                                          .cache = argc > 7 && std::string(argv[7]) == "none"
                                                       ? CacheMode::None
                                                       : CacheMode::Writeback});
    if (!image) {
        std::fprintf(stderr, "%s\n", image.error().text().c_str());
        return 1;
    }
    Bench bench(**image, write ? DiskOperation::Write : DiskOperation::Read,
                std::string(argv[3]) == "random", block);
    const auto seconds = bench.run(static_cast<uint32_t>(std::atoi(argv[4])), count);
    if (!seconds) {
        std::fprintf(stderr, "%s\n", seconds.error().text().c_str());
        return 1;
    }
    std::printf("%.3f\n", *seconds);
    return 0;
}

}  // namespace
}  // namespace kumoi::hypervisor

int main(int argc, char** argv) {
    return kumoi::hypervisor::run(argc, argv);
}
