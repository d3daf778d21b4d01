// PciRoot's section: a group for each function, under its place.
#include "hypervisor/pci/pci_root.h"

namespace kumoi::hypervisor {

namespace {

// Fields of the sections; never reused.
enum Field : uint16_t { kFieldAddress = 1, kFieldFunctions = 2 };
enum FunctionField : uint16_t {
    kFieldSlot = 1,
    kFieldFunction = 2,
    kFieldConfigSpace = 3,
    kFieldState = 4,
};
constexpr size_t kFunctionsMax = board::kPciSlotCount * board::kPciFunctionCount;

}  // namespace

void PciRoot::save(SectionWriter& out) const {
    const std::lock_guard lock(mutex_);
    out.u64(kFieldAddress, config_address());
    for (size_t index = 0; index < functions_.size(); ++index) {
        PciDevice* device = functions_[index].device;
        if (device == nullptr) {
            continue;
        }
        SectionWriter function(device->name(), 1);
        function.u64(kFieldSlot, index / kFunctionCount);
        function.u64(kFieldFunction, index % kFunctionCount);
        if (const PciConfigSpace* space = device->config_space()) {
            function.bytes(kFieldConfigSpace, space->bytes());
        }
        SectionWriter state("state", 1);
        device->save(state);
        function.group(kFieldState, state);
        out.group(kFieldFunctions, function);
    }
}

std::vector<std::string> PciRoot::function_names() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (size_t index = 0; index < functions_.size(); ++index) {
        if (const PciDevice* device = functions_[index].device) {
            names.push_back(fmt::format("{:02x}.{} {}", index / kFunctionCount,
                                        index % kFunctionCount, device->name()));
        }
    }
    return names;
}

Result<std::vector<std::string>> PciRoot::check(SectionReader& in) const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> reasons;
    std::array<bool, kSlotCount * kFunctionCount> saved{};
    for (SectionReader& one : TRY(in.groups(kFieldFunctions, kFunctionsMax))) {
        const uint64_t slot = TRY(one.u64_max(kFieldSlot, kSlotCount - 1));
        const uint64_t function = TRY(one.u64_max(kFieldFunction, kFunctionCount - 1));
        const size_t index = slot * kFunctionCount + function;
        const PciDevice* device = functions_[index].device;
        if (device == nullptr || device->name() != one.name()) {
            reasons.push_back(fmt::format(
                "the guest has device {} at PCI {:02x}.{}, this machine "
                "has {} there",
                one.name(), slot, function, device != nullptr ? device->name() : "nothing"));
        }
        saved[index] = true;
    }
    for (size_t index = 0; index < functions_.size(); ++index) {
        if (functions_[index].device != nullptr && !saved[index]) {
            reasons.push_back(fmt::format(
                "this machine has device {} at PCI {:02x}.{}, the guest "
                "has nothing there",
                functions_[index].device->name(), index / kFunctionCount, index % kFunctionCount));
        }
    }
    return reasons;
}

Result<void> PciRoot::load(SectionReader& in) {
    const std::lock_guard lock(mutex_);
    for (Function& function : functions_) {  // all at once: places may have been swapped
        for (unsigned index = 0; function.device != nullptr && index < pci::kPlaceCount; ++index) {
            unmap_bar(function, index);
        }
        function.last_good = {};
    }
    set_config_address(TRY(in.u32(kFieldAddress)));
    for (SectionReader& one : TRY(in.groups(kFieldFunctions, kFunctionsMax))) {
        TRY_CONTEXT(load_function(one), "PCI device {}", one.name());
    }
    follow_ecam();
    for (Function& function : functions_) {
        if (function.device != nullptr) {
            follow_bars(function);
        }
    }
    return {};
}

Result<void> PciRoot::load_function(SectionReader& in) {
    const auto slot = static_cast<unsigned>(TRY(in.u64_max(kFieldSlot, kSlotCount - 1)));
    const auto number = static_cast<unsigned>(TRY(in.u64_max(kFieldFunction, kFunctionCount - 1)));
    PciDevice* device = at(slot, number).device;
    if (device == nullptr || device->name() != in.name()) {
        return Error::make(ErrorCode::Unsupported, "this machine has no such device at {:02x}.{}",
                           slot, number);
    }
    if (PciConfigSpace* space = device->config_space()) {
        TRY(space->load(TRY(in.bytes(kFieldConfigSpace))));
    }
    auto state = TRY(in.group(kFieldState));
    TRY(device->load(state));
    TRY(state.finish());
    return in.finish();
}

}  // namespace kumoi::hypervisor
