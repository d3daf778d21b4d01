// MachineDisplay: a machine's picture and what a person does to it, put together: the display at
// PCI 02.0, keyboard and tablet beside it, the PS/2 keyboard, and the VNC server in front.
//
// Made and destroyed on the loop's thread; the PCI devices belong to the table and outlive it.
#pragma once

#include <functional>
#include <memory>

#include "base/json.h"
#include "base/result.h"
#include "hypervisor/board/legacy_ports.h"
#include "hypervisor/board/platform.h"
#include "hypervisor/display/display_config.h"
#include "hypervisor/display/input_hub.h"
#include "hypervisor/pci/pci_devices.h"
#include "hypervisor/sandbox/file_source.h"
#include "hypervisor/virtio/pci_transport.h"

namespace kumoi::hypervisor {

class VncServer;

class MachineDisplay {
public:
    struct Place {
        Platform& platform;
        FileSource& files;
        PciDevices& pci;
        I8042& controller;
        std::function<VirtioPciConfig(PciAddress)> pci_config;
    };
    // Adds its functions to the table, plugs the keyboard in, and listens.
    static Result<std::unique_ptr<MachineDisplay>> create(const DisplayConfig& config,
                                                          const std::string& name,
                                                          const Place& place);
    ~MachineDisplay();
    MachineDisplay(const MachineDisplay&) = delete;
    MachineDisplay& operator=(const MachineDisplay&) = delete;

    Json statistics() const;

private:
    MachineDisplay(FileSource& files, DisplayConfig config);
    Result<void> add_input(const Place& place);
    Result<void> listen();

    FileSource& files_;
    const DisplayConfig config_;
    InputHub hub_;
    std::unique_ptr<VncServer> vnc_;
};

}  // namespace kumoi::hypervisor
