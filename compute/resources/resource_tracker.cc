#include "compute/resources/resource_tracker.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "base/file.h"
#include "base/version.h"

namespace kumoi::compute {
namespace {

// A root disk that is a volume is not on this host.
Usage usage_of(const Instance& instance, const Flavor& flavor) {
    const int64_t root_gb = instance.image_id.empty() ? 0 : flavor.root_gb;
    return {flavor.vcpus, flavor.memory_mb, root_gb + flavor.ephemeral_gb};
}

Usage sum(const Usage& left, const Usage& right) {
    return {left.vcpus + right.vcpus, left.memory_mb + right.memory_mb,
            left.disk_gb + right.disk_gb};
}

Usage difference(const Usage& left, const Usage& right) {
    return {left.vcpus - right.vcpus, left.memory_mb - right.memory_mb,
            left.disk_gb - right.disk_gb};
}

// Both flavors while a resize is not confirmed.
Usage usage_of(const Instance& instance) {
    const Flavor* other = other_flavor(instance);
    const Usage now = usage_of(instance, instance.flavor);
    return other == nullptr ? now : sum(now, usage_of(instance, *other));
}

int64_t times(int64_t total, double ratio) {
    return static_cast<int64_t>(static_cast<double>(total) * ratio);
}

Result<void> check_limit(std::string_view what, std::string_view unit, int64_t asked, int64_t used,
                         int64_t limit) {
    if (used + asked <= limit) {
        return {};
    }
    return Error::exhausted("This host has {} {} of {} free for servers, {} {} requested",
                            std::max<int64_t>(0, limit - used), unit, what, asked, unit)
        .with_hint("Choose a smaller flavor, free resources, or raise the allocation ratio.")
        .with_fault("ComputeResourcesUnavailable");
}

// 1000 * 1000 * major + 1000 * minor + micro, as Nova writes hypervisor versions.
int64_t version_number() {
    int major = 0;
    int minor = 0;
    int micro = 0;
    std::sscanf(kVersion, "%d.%d.%d", &major, &minor, &micro);
    return 1'000'000LL * major + 1'000LL * minor + micro;
}

double uptime_s() {
    const auto text = read_file("/proc/uptime", 256);
    return text.ok() ? std::atof(text->c_str()) : 0;
}

std::string load_average() {
    const auto text = read_file("/proc/loadavg", 256);
    double one = 0;
    double five = 0;
    double fifteen = 0;
    if (!text.ok() || std::sscanf(text->c_str(), "%lf %lf %lf", &one, &five, &fifteen) != 3) {
        return "";
    }
    return fmt::format("{:.2f}, {:.2f}, {:.2f}", one, five, fifteen);
}

}  // namespace

Claim::Claim(Claim&& other) noexcept : tracker_(other.tracker_), uuid_(std::move(other.uuid_)) {
    other.tracker_ = nullptr;
}

Claim& Claim::operator=(Claim&& other) noexcept {
    if (this != &other) {
        abort();
        tracker_ = std::exchange(other.tracker_, nullptr);
        uuid_ = std::move(other.uuid_);
    }
    return *this;
}

void Claim::abort() {
    if (tracker_ != nullptr) {
        std::exchange(tracker_, nullptr)->release(uuid_);
    }
}

ResourceTracker::ResourceTracker(ResourceOptions options, const Clock& clock)
    : options_(std::move(options)), clock_(clock) {}

Result<Claim> ResourceTracker::claim(const Instance& instance) {
    const Usage asked = usage_of(instance, instance.flavor);
    {
        const std::lock_guard lock(mutex_);
        if (shares_.contains(instance.uuid)) {
            return Error::conflict("Server {} already uses resources of this host", instance.uuid);
        }
        TRY(check_limits(asked, used_));
        shares_[instance.uuid] = {asked, true};
        released_.erase(instance.uuid);
        used_ = sum(used_, asked);
    }
    if (on_change_) {
        on_change_();
    }
    return Claim(*this, instance.uuid);
}

Result<void> ResourceTracker::check_limits(const Usage& asked, const Usage& used) const {
    TRY(check_limit("vCPUs", "threads", asked.vcpus, used.vcpus,
                    times(inventory_.vcpus, options_.cpu_allocation_ratio)));
    TRY(check_limit(
        "memory", "MiB", asked.memory_mb, used.memory_mb,
        times(inventory_.memory_mb - options_.reserved_memory_mb, options_.ram_allocation_ratio)));
    return check_limit("disk", "GiB", asked.disk_gb, used.disk_gb,
                       times(inventory_.local_gb, options_.disk_allocation_ratio));
}

Result<void> ResourceTracker::resize_claim(const Instance& instance) {
    if (!instance.new_flavor) {
        return Error::internal("Server {} has no flavor to be resized to", instance.uuid);
    }
    {
        const std::lock_guard lock(mutex_);
        Usage& share = shares_[instance.uuid].usage;
        // An audit may have counted both flavors already: the record names them.
        const Usage others = difference(used_, share);
        const Usage now = usage_of(instance, instance.flavor);
        TRY(check_limits(usage_of(instance, *instance.new_flavor), sum(others, now)));
        share = usage_of(instance);
        used_ = sum(others, share);
    }
    if (on_change_) {
        on_change_();
    }
    return {};
}

void ResourceTracker::set_share(const Instance& instance) {
    {
        const std::lock_guard lock(mutex_);
        const auto share = shares_.find(instance.uuid);
        if (share == shares_.end()) {
            return;
        }
        used_ = difference(used_, share->second.usage);
        share->second.usage = usage_of(instance);
        used_ = sum(used_, share->second.usage);
    }
    if (on_change_) {
        on_change_();
    }
}

void ResourceTracker::release(const std::string& uuid) {
    {
        const std::lock_guard lock(mutex_);
        released_.insert(uuid);
        const auto share = shares_.find(uuid);
        if (share == shares_.end()) {
            return;
        }
        used_ = difference(used_, share->second.usage);
        shares_.erase(share);
    }
    if (on_change_) {
        on_change_();
    }
}

bool ResourceTracker::is_tracked(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    return shares_.contains(uuid);
}

void ResourceTracker::set_building(const std::string& uuid, bool building) {
    const std::lock_guard lock(mutex_);
    const auto share = shares_.find(uuid);
    if (share != shares_.end()) {
        share->second.building = building;
    }
}

void ResourceTracker::begin_update() {
    const std::lock_guard lock(mutex_);
    released_.clear();
}

void ResourceTracker::update(const HostResources& inventory,
                             const std::vector<Instance>& instances) {
    const std::lock_guard lock(mutex_);
    inventory_ = inventory;
    std::unordered_set<std::string> known;
    for (const Instance& instance : instances) {
        if (released_.contains(instance.uuid)) {
            continue;
        }
        known.insert(instance.uuid);
        shares_[instance.uuid].usage = usage_of(instance);
    }
    std::erase_if(shares_, [&](const auto& entry) {
        return !entry.second.building && !known.contains(entry.first);
    });
    used_ = {};
    for (const auto& [uuid, share] : shares_) {
        used_ = sum(used_, share.usage);
    }
    updated_ns_ = clock_.wall_ns();
}

ComputeNode ResourceTracker::compute_node() const {
    ComputeNode node;
    node.uptime_s = uptime_s();
    node.load_average = load_average();
    const std::lock_guard lock(mutex_);
    node.uuid = options_.uuid;
    node.host = options_.host;
    node.hypervisor_hostname = options_.host;
    node.hypervisor_version = version_number();
    node.host_ip = options_.host_ip;
    node.vcpus = inventory_.vcpus;
    node.vcpus_used = used_.vcpus;
    node.memory_mb = inventory_.memory_mb;
    node.memory_mb_reserved = options_.reserved_memory_mb;
    node.memory_mb_used = options_.reserved_memory_mb + used_.memory_mb;
    node.local_gb = inventory_.local_gb;
    node.local_gb_used = used_.disk_gb;
    node.disk_available_least_gb =
        std::min(inventory_.local_gb_free, inventory_.local_gb - used_.disk_gb);
    node.running_vms = static_cast<int64_t>(shares_.size());
    node.current_workload = std::count_if(shares_.begin(), shares_.end(),
                                          [](const auto& entry) { return entry.second.building; });
    node.cpu_allocation_ratio = options_.cpu_allocation_ratio;
    node.ram_allocation_ratio = options_.ram_allocation_ratio;
    node.disk_allocation_ratio = options_.disk_allocation_ratio;
    node.cpu_info_json = inventory_.cpu_info_json;
    node.updated_ns = updated_ns_;
    return node;
}

}  // namespace kumoi::compute
