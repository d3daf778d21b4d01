// Which model-specific registers are state of a vCPU, and what a host that refuses one means for
// a restore. An MSR that is not here is not saved: the table is part of the format.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace kumoi::hypervisor {

enum class MsrRule : uint8_t {
    MustSet,  // the guest cannot go on without: a refusal ends the restore
    MayDrop,  // a refusal is logged when the value was not zero
};

struct MsrInfo {
    uint32_t index;
    MsrRule rule;
    std::string_view name;
};

// In the order in which they are set: the TSC deadline comes last (Intel SDM vol. 3 §10.5.4.1).
std::span<const MsrInfo> msr_table();
const MsrInfo* find_msr(uint32_t index);  // null: not in the table

}  // namespace kumoi::hypervisor
