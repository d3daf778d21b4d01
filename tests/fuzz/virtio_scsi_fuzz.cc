// Fuzzes the SCSI controller and its drives with hostile chains and command descriptor blocks.

#include <cstring>
#include <deque>

#include "hypervisor/virtio/scsi.h"
#include "tests/fuzz/virtio_device_fuzz.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

constexpr uint64_t kSize = 64 * 2048;

// Completes when drained, and checks that nothing outside the image is asked for.
class Reader final : public DiskQueue {
public:
    explicit Reader(DiskClient& client) : client_(client) {}
    bool submit(DiskRequest& request) override {
        if (request.offset > kSize || request.size > kSize - request.offset) {
            std::abort();
        }
        if (waiting_.size() >= 4) {
            return false;
        }
        waiting_.push_back(request);
        return true;
    }
    void kick() override {}
    void drain() override {
        while (!waiting_.empty()) {
            const DiskRequest request = waiting_.front();
            waiting_.pop_front();
            for (const iovec& vector : request.vectors) {
                std::memset(vector.iov_base, 0x5a, vector.iov_len);
            }
            client_.disk_completed(request.token, 0);
        }
        client_.disk_batch_done();
    }

private:
    DiskClient& client_;
    std::deque<DiskRequest> waiting_;
};

class Iso final : public DiskImage {
public:
    std::string name() const override { return "iso"; }
    uint64_t size() const override { return kSize; }
    bool read_only() const override { return true; }
    uint32_t block_size() const override { return 512; }
    bool write_cache() const override { return false; }
    bool can_discard() const override { return false; }
    Result<std::unique_ptr<DiskQueue>> open_queue(EventLoop& /*loop*/,
                                                  DiskClient& client) override {
        return Result<std::unique_ptr<DiskQueue>>(std::make_unique<Reader>(client));
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static PlatformFake platform;
    FuzzInput input(data, size);
    std::vector<VirtioScsi::Medium> media(2);
    media[0] = {std::make_unique<Iso>(), "cd0"};
    media[1] = {nullptr, "cd1"};
    VirtioScsi device("scsi", std::move(media));
    fuzz_device(device, platform, input);
    return 0;
}
