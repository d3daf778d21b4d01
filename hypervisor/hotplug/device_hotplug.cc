#include "hypervisor/hotplug/device_hotplug.h"

#include <utility>

#include "base/clock.h"
#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

bool is_hotplug_slot(unsigned slot) {
    return slot >= board::kPciNicSlotFirst && slot <= board::kPciDiskSlotLast;
}

std::string place_text(PciAddress address) {
    return fmt::format("{:02x}.{}", address.slot, address.function);
}

}  // namespace

DeviceHotplug::~DeviceHotplug() {
    for (const auto& [slot, pending] : pending_) {
        loop_.cancel(pending.timer);
    }
}

Result<PciAddress> DeviceHotplug::free_slot(unsigned first, unsigned last) const {
    for (unsigned slot = first; slot <= last; ++slot) {
        if (devices_.at({slot, 0}) == nullptr) {
            return PciAddress{slot, 0};
        }
    }
    return Error::exhausted("all {} slots from {:02x} to {:02x} are taken", last - first + 1, first,
                            last)
        .with_hint("remove a device first");
}

Result<void> DeviceHotplug::add(PciAddress address, std::unique_ptr<PciDevice> device) {
    const std::string name = device->name();
    TRY(devices_.add(address, std::move(device)));
    registers_.insert(address.slot);
    log_info("hotplug", "device added", {{"device", name}, {"slot", place_text(address)}});
    hooks_.event({"device_added", Json::object({{"device", name}, {"slot", place_text(address)}})});
    return {};
}

Result<PciAddress> DeviceHotplug::find_removable(const std::string& name) const {
    const auto address = devices_.find(name);
    if (!address) {
        return Error::not_found("there is no device \"{}\"", name);
    }
    if (!is_hotplug_slot(address->slot)) {
        return Error::unsupported("{} in slot {} is a part of the board", name,
                                  place_text(*address));
    }
    return *address;
}

void DeviceHotplug::remove(const std::string& name, int64_t timeout_ms, Answer answer) {
    const auto address = find_removable(name);
    if (!address) {
        answer(address.error());
        return;
    }
    const unsigned slot = address->slot;
    Pending& pending = pending_[slot];
    if (pending.answer) {
        answer(Error::conflict("{} is being removed already", name));
        return;
    }
    pending.answer = std::move(answer);
    pending.timer =
        loop_.call_after(timeout_ms * kNanosPerMilli, [this, slot] { timed_out(slot); });
    registers_.request_removal(slot);
}

// The guest may have seen the request and be about to let go: that is still taken. One it has not
// seen is withdrawn, so that it does not come as a surprise to an OS that boots later.
void DeviceHotplug::timed_out(unsigned slot) {
    const auto found = pending_.find(slot);
    if (found == pending_.end()) {
        return;
    }
    const Answer answer = std::move(found->second.answer);
    pending_.erase(found);
    registers_.withdraw_removal(slot);
    const PciDevice* device = devices_.at({slot, 0});
    const std::string name = device == nullptr ? "" : device->name();
    hooks_.event({"device_removal_failed",
                  Json::object({{"device", name}, {"reason", "guest did not release"}})});
    answer(Error::timeout("guest did not release {}", name)
               .with_hint("unmount or unconfigure it in the guest and try again; with the machine "
                          "stopped it can be removed by \"force\""));
}

Result<void> DeviceHotplug::remove_now(const std::string& name) {
    const PciAddress address = TRY(find_removable(name));
    registers_.set_present(address.slot, false);
    take_out(address.slot);
    return {};
}

void DeviceHotplug::ejected(uint32_t slots) {
    for (unsigned slot = board::kPciNicSlotFirst; slot <= board::kPciDiskSlotLast; ++slot) {
        if ((slots >> slot & 1) != 0 && devices_.at({slot, 0}) != nullptr) {
            take_out(slot);
        }
    }
}

void DeviceHotplug::reset() {
    while (!pending_.empty()) {
        const unsigned slot = pending_.begin()->first;
        registers_.set_present(slot, false);
        take_out(slot);
    }
}

bool DeviceHotplug::is_removing(const std::string& name) const {
    const auto address = devices_.find(name);
    return address && pending_.contains(address->slot);
}

void DeviceHotplug::take_out(unsigned slot) {
    Pending pending;
    if (auto found = pending_.extract(slot); !found.empty()) {
        pending = std::move(found.mapped());
        loop_.cancel(pending.timer);
    }
    std::unique_ptr<PciDevice> device;
    const auto done = hooks_.standstill([&]() -> Result<void> {
        device = TRY(devices_.remove({slot, 0}));
        return {};
    });
    if (!done) {
        log_error("hotplug", "a device stays", {{"error", done.error().text()}});
        if (pending.answer) {
            pending.answer(done.error());
        }
        return;
    }
    const std::string name = device->name();
    device.reset();
    const bool requested = static_cast<bool>(pending.answer);
    log_info("hotplug", "device removed", {{"device", name}, {"requested", requested}});
    hooks_.removed(name);
    hooks_.event({"device_removed", Json::object({{"device", name}, {"requested", requested}})});
    if (pending.answer) {
        pending.answer(Json::object({{"device", name}, {"state", "removed"}}));
    }
}

}  // namespace kumoi::hypervisor
