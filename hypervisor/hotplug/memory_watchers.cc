#include "hypervisor/hotplug/memory_watchers.h"

#include "hypervisor/virtio/net_vhost.h"

namespace kumoi::hypervisor {

void MemoryWatchers::add(std::weak_ptr<NetVhost> watcher) {
    const std::lock_guard lock(mutex_);
    std::erase_if(watchers_, [](const auto& other) { return other.expired(); });
    watchers_.push_back(std::move(watcher));
}

Result<void> MemoryWatchers::tell(const std::vector<MemoryRegion>& regions) {
    const std::lock_guard lock(mutex_);
    for (const auto& watcher : watchers_) {
        if (const auto card = watcher.lock()) {
            TRY(card->memory_changed(regions));
        }
    }
    return {};
}

}  // namespace kumoi::hypervisor
