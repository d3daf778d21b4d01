// MemoryDisk: a DiskImage in memory whose requests are done when the queue is drained, in order.
// What was asked for is kept, so that tests see what a device made of a guest's command; whatever
// leaves the disk aborts the test.
#pragma once

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "hypervisor/block/disk_image.h"

namespace kumoi::hypervisor {

class MemoryDisk final : public DiskImage {
public:
    struct Shared {
        explicit Shared(size_t size) : bytes(size) {}
        std::vector<std::byte> bytes;
        uint32_t block_size = 512;
        bool read_only = false;
        bool write_cache = true;
        bool can_discard = true;
        int fail_with = 0;
        size_t depth = 64;
        std::vector<DiskRequest> done;  // without their vectors
        std::function<void()> resized;
    };
    explicit MemoryDisk(Shared& shared) : shared_(shared) {}

    std::string name() const override { return "disk in memory"; }
    uint64_t size() const override { return shared_.bytes.size(); }
    bool read_only() const override { return shared_.read_only; }
    uint32_t block_size() const override { return shared_.block_size; }
    bool write_cache() const override { return shared_.write_cache; }
    bool can_discard() const override { return shared_.can_discard; }
    Result<void> resize(uint64_t size) override {
        shared_.bytes.resize(size);
        if (shared_.resized) {
            shared_.resized();
        }
        return {};
    }
    void on_resize(std::function<void()> function) override {
        shared_.resized = std::move(function);
    }
    Result<std::unique_ptr<DiskQueue>> open_queue(EventLoop& /*loop*/,
                                                  DiskClient& client) override {
        return Result<std::unique_ptr<DiskQueue>>(std::make_unique<Stream>(shared_, client));
    }

private:
    class Stream final : public DiskQueue {
    public:
        Stream(Shared& shared, DiskClient& client) : shared_(shared), client_(client) {}
        bool submit(DiskRequest& request) override {
            if (request.offset > shared_.bytes.size() ||
                request.size > shared_.bytes.size() - request.offset) {
                std::abort();
            }
            if (waiting_.size() >= shared_.depth) {
                return false;
            }
            waiting_.push_back(request);
            return true;
        }
        void kick() override {}
        void drain() override {
            while (!waiting_.empty()) {
                DiskRequest request = std::move(waiting_.front());
                waiting_.pop_front();
                if (shared_.fail_with == 0) {
                    carry_out(request);
                }
                request.vectors.clear();
                shared_.done.push_back(request);
                client_.disk_completed(request.token, shared_.fail_with);
            }
            client_.disk_batch_done();
        }

    private:
        void carry_out(const DiskRequest& request) {
            std::byte* at = shared_.bytes.data() + request.offset;
            if (request.operation == DiskOperation::WriteZeroes ||
                request.operation == DiskOperation::Discard) {
                std::memset(at, 0, request.size);
            }
            uint64_t moved = 0;
            for (const iovec& vector : request.vectors) {
                moved += vector.iov_len;
                if (moved > request.size) {
                    std::abort();
                }
                if (request.operation == DiskOperation::Read) {
                    std::memcpy(vector.iov_base, at, vector.iov_len);
                } else {
                    std::memcpy(at, vector.iov_base, vector.iov_len);
                }
                at += vector.iov_len;
            }
        }
        Shared& shared_;
        DiskClient& client_;
        std::deque<DiskRequest> waiting_;
    };
    Shared& shared_;
};

}  // namespace kumoi::hypervisor
