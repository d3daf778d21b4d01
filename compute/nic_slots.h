// Where the network cards of a server sit: a slot of PCI bus 0 each, chosen once and recorded with
// the interface, so that no card moves when another comes or goes. Servers from before there were
// recorded slots have their cards in the order of their interfaces, which is what
// assign_nic_slots() gives them. The card's id in guest.json follows from the slot. Pure.
#pragma once

#include <string>
#include <vector>

#include "compute/objects.h"

namespace kumoi::compute {

constexpr unsigned kNicSlotFirst = 3;  // of board kumoi-1
constexpr unsigned kNicSlotLast = 10;
constexpr size_t kNicsMax = kNicSlotLast - kNicSlotFirst + 1;

// Those without a slot get the lowest free ones, in their order; 0 stays when none is left.
void assign_nic_slots(std::vector<VifInfo>& vifs);
// Gives `vifs` the slots and tags that the same ports have in `known`.
void keep_nic_slots(std::vector<VifInfo>& vifs, const std::vector<VifInfo>& known);
// "net0" in the first slot; without a slot one that no slot gives.
std::string nic_id(const VifInfo& vif);

const VifInfo* find_vif(const std::vector<VifInfo>& vifs, const std::string& port_id);

}  // namespace kumoi::compute
