// MemoryWatchers: the cards whose queues the kernel serves, which must know what guest memory there
// is. Cards come and go; a change of memory reaches those that are there. Any thread.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "base/result.h"
#include "hypervisor/memory/guest_memory.h"

namespace kumoi::hypervisor {

class NetVhost;

class MemoryWatchers {
public:
    void add(std::weak_ptr<NetVhost> watcher);
    Result<void> tell(const std::vector<MemoryRegion>& regions);

private:
    std::mutex mutex_;
    std::vector<std::weak_ptr<NetVhost>> watchers_;
};

}  // namespace kumoi::hypervisor
