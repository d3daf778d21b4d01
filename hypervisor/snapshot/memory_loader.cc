#include "hypervisor/snapshot/memory_loader.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "hypervisor/snapshot/job_thread.h"
#include "hypervisor/snapshot/pages.h"

namespace kumoi::hypervisor {

using namespace snapshot;

namespace {

struct Loading {
    BlockSource& source;
    std::byte* base;
    uint64_t size;
    std::atomic<uint64_t> next{0};
    std::atomic<bool> failed{false};
    std::mutex mutex;
    std::optional<Error> error;  // the first one
};

void load_some(Loading& loading) {
    alignas(kPageSize) std::byte buffer[kBlockSize];
    const uint64_t blocks = block_count(loading.size);
    while (!loading.failed) {
        const uint64_t block = loading.next.fetch_add(1);
        if (block >= blocks) {
            return;
        }
        const uint64_t offset = block * kBlockSize;
        const std::span<std::byte> bytes(buffer, std::min(kBlockSize, loading.size - offset));
        const auto present = loading.source.read_block(block, bytes);
        if (!present) {
            const std::lock_guard lock(loading.mutex);
            if (!loading.failed.exchange(true)) {
                loading.error = present.error();
            }
            return;
        }
        for_each_run(*present, [&](unsigned first, unsigned count) {
            std::memcpy(loading.base + offset + first * kPageSize, buffer + first * kPageSize,
                        count * kPageSize);
        });
    }
}

}  // namespace

Result<void> load_all_blocks(BlockSource& source, GuestMemory& memory, unsigned threads) {
    if (source.memory_size() != memory.size()) {
        return Error::invalid("the snapshot has {} bytes of memory, the machine {}",
                              source.memory_size(), memory.size());
    }
    Loading loading{source, memory.regions().front().host, memory.size(), {}, {}, {}, {}};
    std::vector<std::thread> helpers;
    for (unsigned i = 1; i < threads; ++i) {
        helpers.push_back(start_job_thread("load", [&loading] { load_some(loading); }));
    }
    load_some(loading);
    for (std::thread& helper : helpers) {
        helper.join();
    }
    if (loading.error) {
        return *loading.error;
    }
    return {};
}

}  // namespace kumoi::hypervisor
