#include "compute/nic_slots.h"

#include <algorithm>

#include <fmt/format.h>

namespace kumoi::compute {

void assign_nic_slots(std::vector<VifInfo>& vifs) {
    unsigned slot = kNicSlotFirst;
    for (VifInfo& vif : vifs) {
        if (vif.pci_slot != 0) {
            continue;
        }
        const auto taken = [&](const VifInfo& other) { return other.pci_slot == slot; };
        while (slot <= kNicSlotLast && std::ranges::any_of(vifs, taken)) {
            ++slot;
        }
        vif.pci_slot = slot <= kNicSlotLast ? slot : 0;
    }
}

void keep_nic_slots(std::vector<VifInfo>& vifs, const std::vector<VifInfo>& known) {
    for (VifInfo& vif : vifs) {
        if (const VifInfo* same = find_vif(known, vif.port_id)) {
            vif.pci_slot = same->pci_slot;
            vif.tag = same->tag;
        }
    }
}

std::string nic_id(const VifInfo& vif) {
    return vif.pci_slot == 0 ? "net-" + vif.port_id
                             : fmt::format("net{}", vif.pci_slot - kNicSlotFirst);
}

const VifInfo* find_vif(const std::vector<VifInfo>& vifs, const std::string& port_id) {
    const auto found = std::ranges::find(vifs, port_id, &VifInfo::port_id);
    return found == vifs.end() ? nullptr : &*found;
}

}  // namespace kumoi::compute
