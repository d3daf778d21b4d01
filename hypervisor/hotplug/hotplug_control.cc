#include "hypervisor/hotplug/hotplug_control.h"

#include <algorithm>

#include "hypervisor/board/pci_layout.h"
#include "hypervisor/vmm_devices.h"

namespace kumoi::hypervisor {

namespace {

constexpr int64_t kTimeoutMsMax = 3'600'000;

Json place(const std::string& id, PciAddress address) {
    return Json::object(
        {{"device", id}, {"slot", fmt::format("{:02x}.{}", address.slot, address.function)}});
}

void add_to_source(Json& source, std::string_view member, Json part, PciAddress address) {
    part.set("slot", address.slot);
    Json& list = source[member];
    if (!list.is_array()) {
        list = Json::array();
    }
    list.push_back(std::move(part));
}

}  // namespace

HotplugControl::HotplugControl(VmConfig& config, MachineDevices& devices, DeviceHotplug& hotplug,
                               Machine machine)
    : config_(config), devices_(devices), hotplug_(hotplug), machine_(std::move(machine)) {
    name_slots();
}

// A snapshot is restored by the configuration: every device says its slot there, so that it stays
// in its place when one before it goes.
void HotplugControl::name_slots() {
    const auto name = [this](auto& parts, std::string_view member) {
        Json* list = config_.source.find(member);
        for (size_t i = 0; i < parts.size(); ++i) {
            if (const auto at = devices_.pci_devices().find(parts[i].id); at) {
                parts[i].slot = at->slot;
                if (list != nullptr && list->is_array() && i < list->size()) {
                    list->as_array()[i].set("slot", at->slot);
                }
            }
        }
    };
    name(config_.disks, "disks");
    name_targets();
    name(config_.nics, "nics");
}

// As slots.
void HotplugControl::name_targets() {
    Json* list = config_.source.find("disks");
    for (size_t i = 0; i < config_.disks.size(); ++i) {
        if (config_.disks[i].scsi_target && list != nullptr && i < list->size()) {
            list->as_array()[i].set("target", *config_.disks[i].scsi_target);
        }
    }
}

bool HotplugControl::handle(const ControlRequest& request, const Answer& answer) {
    const auto fail = [&answer](const Result<void>& result) {
        if (!result) {
            answer(result.error());
        }
        return true;
    };
    if (request.method == "add_disk") {
        answer(add_disk(request.params));
        return true;
    }
    if (request.method == "add_nic") {
        answer(add_nic(request.params));
        return true;
    }
    if (request.method == "remove_disk" || request.method == "remove_nic") {
        return fail(remove(request.params, request.method == "remove_disk", answer));
    }
    if (request.method == "set_vcpus") {
        return fail(set_vcpus(request.params, answer));
    }
    return false;
}

bool HotplugControl::has_device(const std::string& id) const {
    const auto same = [&id](const auto& part) { return part.id == id; };
    return std::ranges::any_of(config_.disks, same) || std::ranges::any_of(config_.nics, same);
}

Result<Json> HotplugControl::add_disk(const Json& params) {
    const JsonView view(params, "params");
    TRY(view.only({"disk"}));
    DiskConfig disk = TRY(parse_disk_config(TRY(view.object("disk")), config_));
    if (has_device(disk.id)) {
        return Error::conflict("a device \"{}\" exists already", disk.id);
    }
    if (disk.bus == DiskBus::Scsi) {
        return add_scsi_disk(std::move(disk), TRY(view.object("disk")).json());
    }
    const PciAddress address =
        disk.slot != 0 ? PciAddress{disk.slot}
                       : TRY(hotplug_.free_slot(board::kPciDiskSlotFirst, board::kPciDiskSlotLast));
    TRY(hotplug_.add(address, TRY_CONTEXT(devices_.make_disk(disk, address), "disk {}", disk.id)));
    const std::string id = disk.id;
    disk.slot = address.slot;
    config_.disks.push_back(std::move(disk));
    add_to_source(config_.source, "disks", TRY(view.object("disk")).json(), address);
    return place(id, address);
}

Result<Json> HotplugControl::add_nic(const Json& params) {
    const JsonView view(params, "params");
    TRY(view.only({"nic"}));
    NicConfig nic = TRY(parse_nic_config(TRY(view.object("nic"))));
    if (has_device(nic.id)) {
        return Error::conflict("a device \"{}\" exists already", nic.id);
    }
    const PciAddress address =
        nic.slot != 0 ? PciAddress{nic.slot}
                      : TRY(hotplug_.free_slot(board::kPciNicSlotFirst, board::kPciNicSlotLast));
    TRY(hotplug_.add(address, TRY_CONTEXT(devices_.make_nic(nic, address), "nic {}", nic.id)));
    const std::string id = nic.id;
    nic.slot = address.slot;
    config_.nics.push_back(std::move(nic));
    add_to_source(config_.source, "nics", TRY(view.object("nic")).json(), address);
    return place(id, address);
}

Result<void> HotplugControl::remove(const Json& params, bool disk, const Answer& answer) {
    const JsonView view(params, "params");
    TRY(view.only({"id", "timeout_ms", "force"}));
    const std::string id = TRY(view.string("id"));
    const auto same = [&id](const auto& part) { return part.id == id; };
    if (disk ? std::ranges::none_of(config_.disks, same)
             : std::ranges::none_of(config_.nics, same)) {
        return Error::not_found("there is no {} \"{}\"", disk ? "disk" : "nic", id);
    }
    const int64_t timeout =
        TRY(view.integer_or("timeout_ms", kTimeoutMsDefault, {0, kTimeoutMsMax}));
    const bool force = TRY(view.boolean_or("force", false));
    if (disk && std::ranges::any_of(config_.disks, [&id](const DiskConfig& one) {
            return one.id == id && one.bus == DiskBus::Scsi;
        })) {
        return remove_scsi_disk(id, answer);
    }
    if (!force) {
        hotplug_.remove(id, timeout, answer);
        return {};
    }
    if (!machine_.stopped()) {
        return Error::conflict("{} is in use by a running guest", id)
            .with_hint("remove it without \"force\", or stop or pause the machine first");
    }
    TRY(hotplug_.remove_now(id));
    answer(Json::object({{"device", id}, {"state", "removed"}}));
    return {};
}

Result<void> HotplugControl::set_vcpus(const Json& params, const Answer& answer) {
    const JsonView view(params, "params");
    TRY(view.only({"vcpus", "timeout_ms"}));
    const int64_t vcpus = TRY(view.integer("vcpus", {1, config_.resources.vcpus_max}));
    const int64_t timeout =
        TRY(view.integer_or("timeout_ms", kTimeoutMsDefault, {0, kTimeoutMsMax}));
    machine_.set_vcpus(static_cast<uint32_t>(vcpus), timeout, answer);
    return {};
}

void HotplugControl::forget(const std::string& id) {
    const auto same = [&id](const auto& part) { return part.id == id; };
    std::erase_if(config_.disks, same);
    std::erase_if(config_.nics, same);
    for (const char* member : {"disks", "nics"}) {
        if (Json* list = config_.source.find(member); list != nullptr && list->is_array()) {
            std::erase_if(list->as_array(),
                          [&id](const Json& part) { return part.string_or("id") == id; });
        }
    }
}

}  // namespace kumoi::hypervisor
