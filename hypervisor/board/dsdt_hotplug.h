// The hot-plug part of the DSDT: slots of PCI bus 0 that can be ejected, processors that can come
// and go, and the event methods that tell the OS (ACPI 6.4 §5.6.6, §6.3.3, §8.4).
#pragma once

#include <cstdint>
#include <string>

namespace kumoi::hypervisor {

// For the body of \_SB.PCI0 / for the top of the definition block. `vcpus_max` processors are
// described when it is more than `vcpus`, else none needs to be.
std::string dsdt_pci_slots();
std::string dsdt_hotplug_events(uint32_t vcpus, uint32_t vcpus_max);

}  // namespace kumoi::hypervisor
