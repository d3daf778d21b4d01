// PciDevices: every PCI function of the machine by slot and function, with the root they sit on. It
// grows and shrinks while the guest runs; pause, reset and statistics go over the table.
//
//     TRY(devices.add({3, 0}, make_virtio_net(platform, net, pci)));
//     TRY(devices.start());                       // BARs placed, config space answers
//     ...
//     TRY(devices.add({11, 0}, make_virtio_block(...)));   // hot: the guest places its BARs
//     auto gone = TRY(devices.remove({11, 0}));            // after the guest has let go
//
// Control thread only. vCPUs may run meanwhile, but for remove(): they are parked for it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "base/result.h"
#include "hypervisor/pci/pci_device.h"
#include "hypervisor/pci/pci_root.h"

namespace kumoi::hypervisor {

class PciDevices {
public:
    PciDevices(Platform& platform, const PciRootConfig& config)
        : root_(std::make_unique<PciRoot>(platform, config)) {}

    // Takes what a factory made, or its error. The names of devices are unique.
    template <class Device>
    Result<void> add(PciAddress address, Result<std::unique_ptr<Device>> device) {
        std::unique_ptr<PciDevice> made = TRY(std::move(device));
        return insert(address, std::move(made));
    }
    template <class Device>
    Result<void> add(PciAddress address, std::unique_ptr<Device> device) {
        return insert(address, std::move(device));
    }
    // Gives every BAR its place and puts the configuration space on the buses.
    Result<void> start();
    // Off the bus, its I/O stopped; the caller destroys it when it likes.
    Result<std::unique_ptr<PciDevice>> remove(PciAddress address);

    PciDevice* at(PciAddress address) const;  // null: nothing is there
    std::optional<PciAddress> find(std::string_view name) const;
    void for_each(const std::function<void(PciAddress, PciDevice&)>& visit) const;
    size_t size() const { return devices_.size(); }

    void pause();
    void resume();
    Result<void> reset() { return root_->reset(); }
    Json statistics() const;  // by device name
    PciRoot& root() { return *root_; }

private:
    Result<void> insert(PciAddress address, std::unique_ptr<PciDevice> device);

    struct Order {
        bool operator()(PciAddress left, PciAddress right) const {
            return std::pair(left.slot, left.function) < std::pair(right.slot, right.function);
        }
    };
    std::map<PciAddress, std::unique_ptr<PciDevice>, Order> devices_;
    bool paused_ = false;
    std::unique_ptr<PciRoot> root_;  // goes first: it unmaps the BARs of the devices
};

}  // namespace kumoi::hypervisor
