// Fuzzes the block device with hostile requests on a disk in memory. Checks what the device
// promises its disk: every request inside the disk, whole sectors, vectors that add up.

#include "hypervisor/virtio/block.h"

#include <cstring>
#include <deque>

#include "tests/fuzz/virtio_device_fuzz.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

constexpr uint64_t kDiskSize = 64u << 10;
constexpr size_t kDepth = 3;

void require(bool condition) {
    if (!condition) {
        std::abort();
    }
}

class DiskQueueInMemory final : public DiskQueue {
public:
    DiskQueueInMemory(std::vector<std::byte>& content, DiskClient& client)
        : content_(content), client_(client) {}
    bool submit(DiskRequest& request) override {
        if (waiting_.size() >= kDepth) {
            return false;
        }
        check(request);
        waiting_.push_back(request);
        return true;
    }
    void kick() override {}
    void drain() override {
        while (!waiting_.empty()) {
            const DiskRequest request = waiting_.front();
            waiting_.pop_front();
            std::byte* at = content_.data() + request.offset;
            for (const iovec& vector : request.vectors) {
                if (request.operation == DiskOperation::Read) {
                    std::memcpy(vector.iov_base, at, vector.iov_len);
                } else {
                    std::memcpy(at, vector.iov_base, vector.iov_len);
                }
                at += vector.iov_len;
            }
            client_.disk_completed(request.token, request.offset == 512 ? -EIO : 0);
        }
        client_.disk_batch_done();
    }

private:
    static void check(const DiskRequest& request) {
        uint64_t total = 0;
        for (const iovec& vector : request.vectors) {
            total += vector.iov_len;
        }
        const bool transfer =
            request.operation == DiskOperation::Read || request.operation == DiskOperation::Write;
        require(total == (transfer ? request.size : 0));
        require(request.offset % 512 == 0 && request.size % 512 == 0);
        require(request.offset <= kDiskSize && request.size <= kDiskSize - request.offset);
        require(request.operation == DiskOperation::Flush || request.size > 0);
    }
    std::vector<std::byte>& content_;
    DiskClient& client_;
    std::deque<DiskRequest> waiting_;
};

class DiskInMemory final : public DiskImage {
public:
    std::string name() const override { return "memory"; }
    uint64_t size() const override { return kDiskSize; }
    bool read_only() const override { return false; }
    uint32_t block_size() const override { return 512; }
    bool write_cache() const override { return true; }
    bool can_discard() const override { return true; }
    uint16_t queue_count_max() const override { return 2; }
    Result<std::unique_ptr<DiskQueue>> open_queue(EventLoop& /*loop*/,
                                                  DiskClient& client) override {
        return Result<std::unique_ptr<DiskQueue>>(
            std::make_unique<DiskQueueInMemory>(content_, client));
    }

private:
    std::vector<std::byte> content_ = std::vector<std::byte>(kDiskSize);
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static PlatformFake platform;
    FuzzInput input(data, size);
    VirtioBlock device("disk0", std::make_unique<DiskInMemory>(), "serial", 16, 2);
    if (const auto limit = input.take<uint8_t>(); limit != 0) {
        DiskLimits limits;
        limits.total_bytes.average = uint64_t{limit} << 10;
        limits.read_iops.average = limit;
        require(device.set_limits(limits, 0).ok());
    }
    fuzz_device(device, platform, input);
    return 0;
}
