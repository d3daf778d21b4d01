#include "hypervisor/pci/pci_devices.h"

namespace kumoi::hypervisor {

Result<void> PciDevices::insert(PciAddress address, std::unique_ptr<PciDevice> device) {
    if (const auto taken = find(device->name())) {
        return Error::conflict("a device named {} exists already, in PCI slot {:02x}.{}",
                               device->name(), taken->slot, taken->function);
    }
    TRY(root_->add(address, *device));
    if (paused_) {
        device->pause();
    }
    devices_.emplace(address, std::move(device));
    return {};
}

Result<void> PciDevices::start() {
    TRY(root_->assign_bars());
    return root_->attach();
}

Result<std::unique_ptr<PciDevice>> PciDevices::remove(PciAddress address) {
    const auto found = devices_.find(address);
    if (found == devices_.end()) {
        return Error::not_found("PCI slot {:02x}.{} is empty", address.slot, address.function);
    }
    TRY(root_->remove(address));
    std::unique_ptr<PciDevice> device = std::move(found->second);
    devices_.erase(found);
    if (paused_) {
        device->resume();  // a paused device could not let go of its queues
    }
    device->reset();
    return device;
}

PciDevice* PciDevices::at(PciAddress address) const {
    const auto found = devices_.find(address);
    return found == devices_.end() ? nullptr : found->second.get();
}

std::optional<PciAddress> PciDevices::find(std::string_view name) const {
    for (const auto& [address, device] : devices_) {
        if (device->name() == name) {
            return address;
        }
    }
    return std::nullopt;
}

void PciDevices::for_each(const std::function<void(PciAddress, PciDevice&)>& visit) const {
    for (const auto& [address, device] : devices_) {
        visit(address, *device);
    }
}

void PciDevices::pause() {
    paused_ = true;
    for (const auto& [address, device] : devices_) {
        device->pause();
    }
}

void PciDevices::resume() {
    paused_ = false;
    for (const auto& [address, device] : devices_) {
        device->resume();
    }
}

Json PciDevices::statistics() const {
    Json all = Json::object();
    for (const auto& [address, device] : devices_) {
        if (Json one = device->statistics_json(); !one.is_null()) {
            all.set(device->name(), std::move(one));
        }
    }
    return all;
}

}  // namespace kumoi::hypervisor
