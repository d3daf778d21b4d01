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

}  // namespace

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
    const PciAddress address =
        disk.slot != 0 ? PciAddress{disk.slot}
                       : TRY(hotplug_.free_slot(board::kPciDiskSlotFirst, board::kPciDiskSlotLast));
    TRY(hotplug_.add(address, TRY_CONTEXT(devices_.make_disk(disk, address), "disk {}", disk.id)));
    const std::string id = disk.id;
    disk.slot = address.slot;
    config_.disks.push_back(std::move(disk));
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
    if (!TRY(view.boolean_or("force", false))) {
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
}

}  // namespace kumoi::hypervisor
