#include "api/cli/archive/ovf.h"

#include <algorithm>
#include <charconv>
#include <map>

#include <pugixml.hpp>
#include <sstream>

namespace kumoi::cli {

namespace {

constexpr char kEnvelope[] = "http://schemas.dmtf.org/ovf/envelope/1";
constexpr char kRasd[] =
    "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData";
constexpr char kVssd[] =
    "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData";
constexpr char kVmware[] = "http://www.vmware.com/schema/ovf";
constexpr char kVmdk[] =
    "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";

// CIM_ResourceAllocationSettingData, ResourceType.
enum class Resource : int {
    Processor = 3,
    Memory = 4,
    ScsiController = 6,
    Ethernet = 10,
    CdDrive = 15,
    Disk = 17,
};

constexpr uint32_t kVcpusMax = 1024;
constexpr uint64_t kMemoryMibMax = 1u << 24;

// Without its prefix: descriptors choose their own.
std::string_view local_name(std::string_view name) {
    const size_t colon = name.find(':');
    return colon == std::string_view::npos ? name : name.substr(colon + 1);
}

pugi::xml_node child(const pugi::xml_node& parent, std::string_view name) {
    for (const pugi::xml_node& node : parent.children()) {
        if (local_name(node.name()) == name) {
            return node;
        }
    }
    return {};
}

std::string attribute(const pugi::xml_node& node, std::string_view name) {
    for (const pugi::xml_attribute& each : node.attributes()) {
        if (local_name(each.name()) == name) {
            return each.value();
        }
    }
    return {};
}

std::string text(const pugi::xml_node& parent, std::string_view name) {
    return child(parent, name).child_value();
}

std::optional<uint64_t> number(std::string_view digits) {
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size() && !digits.empty()
               ? std::optional(value)
               : std::nullopt;
}

// DSP0004 annex C: "byte * 2^30", "MegaBytes", "GigaBytes", empty: bytes.
std::optional<unsigned> shift_of(std::string units) {
    std::ranges::transform(units, units.begin(), [](unsigned char c) { return std::tolower(c); });
    std::erase(units, ' ');
    static const std::map<std::string, unsigned> kWords{
        {"", 0},           {"byte", 0}, {"bytes", 0},      {"kilobytes", 10}, {"kb", 10},
        {"megabytes", 20}, {"mb", 20},  {"gigabytes", 30}, {"gb", 30}};
    if (const auto word = kWords.find(units); word != kWords.end()) {
        return word->second;
    }
    constexpr std::string_view kPower = "byte*2^";
    if (units.starts_with(kPower)) {
        const auto power = number(std::string_view(units).substr(kPower.size()));
        if (power && *power <= 40) {
            return static_cast<unsigned>(*power);
        }
    }
    return std::nullopt;
}

Result<uint64_t> bytes_of(const std::string& amount, const std::string& units,
                          std::string_view what) {
    const auto value = number(amount);
    const auto shift = shift_of(units);
    if (!value || !shift || (*value << *shift) >> *shift != *value) {
        return Error::invalid("the descriptor gives {} as \"{} {}\", which is no amount of bytes",
                              what, amount, units);
    }
    return *value << *shift;
}

struct Files {
    std::map<std::string, OvfDisk> by_id;    // of <File>
    std::map<std::string, OvfDisk> by_disk;  // of <Disk>
};

Result<Files> read_files(const pugi::xml_node& envelope) {
    Files files;
    for (const pugi::xml_node& node : child(envelope, "References").children()) {
        if (local_name(node.name()) != "File") {
            continue;
        }
        const std::string compression = attribute(node, "compression");
        if (!compression.empty() && compression != "identity") {
            return Error::unsupported("the disk file {} is packed with {}", attribute(node, "href"),
                                      compression);
        }
        files.by_id[attribute(node, "id")] = {attribute(node, "href"),
                                              number(attribute(node, "size")).value_or(0), 0};
    }
    for (const pugi::xml_node& node : child(envelope, "DiskSection").children()) {
        if (local_name(node.name()) != "Disk") {
            continue;
        }
        const std::string reference = attribute(node, "fileRef");
        const auto file = files.by_id.find(reference);
        if (!reference.empty() && file == files.by_id.end()) {
            return Error::invalid("the descriptor's disk {} names the file {}, which is not listed",
                                  attribute(node, "diskId"), reference);
        }
        if (!attribute(node, "parentRef").empty()) {
            return Error::unsupported("the disk {} is a difference to another",
                                      attribute(node, "diskId"));
        }
        OvfDisk disk = reference.empty() ? OvfDisk{} : file->second;
        disk.capacity_bytes =
            TRY(bytes_of(attribute(node, "capacity"), attribute(node, "capacityAllocationUnits"),
                         "a disk's capacity"));
        files.by_disk[attribute(node, "diskId")] = disk;
    }
    return files;
}

// "ovf:/disk/vmdisk1" or "/disk/vmdisk1".
std::string disk_id(std::string resource) {
    if (resource.starts_with("ovf:")) {
        resource.erase(0, 4);
    }
    return resource.starts_with("/disk/") ? resource.substr(6) : std::string();
}

Result<void> take_item(const pugi::xml_node& item, const Files& files, OvfMachine& machine) {
    const auto type = number(text(item, "ResourceType"));
    const std::string called = text(item, "ElementName");
    switch (static_cast<Resource>(type.value_or(0))) {
        case Resource::Processor: {
            const auto count = number(text(item, "VirtualQuantity"));
            if (!count || *count == 0 || *count > kVcpusMax) {
                return Error::invalid(
                    "the descriptor asks for \"{}\" processors; 1 to {} are possible",
                    text(item, "VirtualQuantity"), kVcpusMax);
            }
            machine.vcpus = static_cast<uint32_t>(*count);
            return {};
        }
        case Resource::Memory:
            machine.memory_mib = TRY(bytes_of(text(item, "VirtualQuantity"),
                                              text(item, "AllocationUnits"), "the memory")) >>
                                 20;
            return {};
        case Resource::Ethernet: machine.networks.push_back(text(item, "Connection")); return {};
        case Resource::Disk: {
            const auto disk = files.by_disk.find(disk_id(text(item, "HostResource")));
            if (disk == files.by_disk.end()) {
                return Error::invalid("the descriptor's drive \"{}\" names no disk that is listed",
                                      called);
            }
            machine.disks.push_back(disk->second);
            return {};
        }
        default:
            machine.ignored.push_back(
                called.empty() ? fmt::format("a device of type {}", text(item, "ResourceType"))
                               : called);
            return {};
    }
}

Result<void> check_machine(const OvfMachine& machine) {
    if (machine.memory_mib == 0 || machine.memory_mib > kMemoryMibMax) {
        return Error::invalid("the descriptor gives {} MiB of memory; 1 to {} are possible",
                              machine.memory_mib, kMemoryMibMax);
    }
    if (machine.disks.empty() || machine.disks.size() > kOvfDisksMax) {
        return Error::invalid("the descriptor has {} disks; 1 to {} are possible",
                              machine.disks.size(), kOvfDisksMax);
    }
    if (machine.disks.front().file.empty()) {
        return Error::invalid("the first disk of the descriptor has no content to start from");
    }
    return {};
}

}  // namespace

Result<OvfMachine> read_ovf(std::string_view content) {
    if (content.size() > kOvfMax) {
        return Error::too_large("the descriptor has {} bytes; {} are read", content.size(),
                                kOvfMax);
    }
    pugi::xml_document document;
    const auto parsed = document.load_buffer(content.data(), content.size());
    if (!parsed) {
        return Error::corrupt("the descriptor is no XML: {} at byte {}", parsed.description(),
                              parsed.offset);
    }
    const pugi::xml_node envelope = child(document, "Envelope");
    const pugi::xml_node system = child(envelope, "VirtualSystem");
    if (!system) {
        return child(envelope, "VirtualSystemCollection")
                   ? Error::unsupported("the descriptor holds several machines; one is imported")
                   : Error::invalid("the descriptor holds no virtual system");
    }
    const Files files = TRY(read_files(envelope));
    OvfMachine machine;
    machine.name = text(system, "Name");
    if (machine.name.empty()) {
        machine.name = attribute(system, "id");
    }
    const pugi::xml_node hardware = child(system, "VirtualHardwareSection");
    for (const pugi::xml_node& node : hardware.children()) {
        const std::string_view name = local_name(node.name());
        if (name == "Item" || name == "StorageItem" || name == "EthernetPortItem") {
            TRY(take_item(node, files, machine));
        } else if (name == "Config" && attribute(node, "key") == "firmware") {
            machine.uefi = attribute(node, "value") == "efi";
        }
    }
    TRY(check_machine(machine));
    return machine;
}

namespace {

void add_item(pugi::xml_node hardware, int id, Resource type, const std::string& name,
              const std::vector<std::pair<std::string, std::string>>& members) {
    // CIM orders the members of an item by name, and some readers insist.
    std::map<std::string, std::string> ordered(members.begin(), members.end());
    ordered["ElementName"] = name;
    ordered["InstanceID"] = std::to_string(id);
    ordered["ResourceType"] = std::to_string(static_cast<int>(type));
    pugi::xml_node item = hardware.append_child("Item");
    for (const auto& [key, value] : ordered) {
        item.append_child(("rasd:" + key).c_str()).text().set(value.c_str());
    }
}

void add_disks(pugi::xml_node envelope, pugi::xml_node hardware, const OvfMachine& machine,
               int& id) {
    pugi::xml_node references = child(envelope, "References");
    pugi::xml_node section = child(envelope, "DiskSection");
    const int controller = id++;
    add_item(hardware, controller, Resource::ScsiController, "SCSI controller",
             {{"Address", "0"}, {"ResourceSubType", "lsilogic"}});
    for (size_t i = 0; i < machine.disks.size(); ++i) {
        const OvfDisk& disk = machine.disks[i];
        pugi::xml_node file = references.append_child("File");
        file.append_attribute("ovf:href") = disk.file.c_str();
        file.append_attribute("ovf:id") = fmt::format("file{}", i).c_str();
        file.append_attribute("ovf:size") = std::to_string(disk.file_bytes).c_str();
        pugi::xml_node entry = section.append_child("Disk");
        entry.append_attribute("ovf:capacity") = std::to_string(disk.capacity_bytes).c_str();
        entry.append_attribute("ovf:capacityAllocationUnits") = "byte";
        entry.append_attribute("ovf:diskId") = fmt::format("disk{}", i).c_str();
        entry.append_attribute("ovf:fileRef") = fmt::format("file{}", i).c_str();
        entry.append_attribute("ovf:format") = kVmdk;
        add_item(hardware, id++, Resource::Disk, fmt::format("Disk {}", i),
                 {{"AddressOnParent", std::to_string(i)},
                  {"HostResource", fmt::format("ovf:/disk/disk{}", i)},
                  {"Parent", std::to_string(controller)}});
    }
}

void add_networks(pugi::xml_node envelope, pugi::xml_node hardware, const OvfMachine& machine,
                  int& id) {
    pugi::xml_node section = child(envelope, "NetworkSection");
    std::vector<std::string> known;
    for (size_t i = 0; i < machine.networks.size(); ++i) {
        const std::string& name = machine.networks[i];
        if (std::ranges::find(known, name) == known.end()) {
            known.push_back(name);
            pugi::xml_node network = section.append_child("Network");
            network.append_attribute("ovf:name") = name.c_str();
            network.append_child("Description").text().set(name.c_str());
        }
        add_item(hardware, id++, Resource::Ethernet, fmt::format("Network adapter {}", i),
                 {{"AutomaticAllocation", "true"},
                  {"Connection", name},
                  {"ResourceSubType", "VmxNet3"}});
    }
}

}  // namespace

std::string write_ovf(const OvfMachine& machine) {
    pugi::xml_document document;
    pugi::xml_node envelope = document.append_child("Envelope");
    envelope.append_attribute("xmlns") = kEnvelope;
    envelope.append_attribute("xmlns:ovf") = kEnvelope;
    envelope.append_attribute("xmlns:rasd") = kRasd;
    envelope.append_attribute("xmlns:vssd") = kVssd;
    envelope.append_attribute("xmlns:vmw") = kVmware;
    envelope.append_child("References");
    envelope.append_child("DiskSection").append_child("Info").text().set("Virtual disks");
    envelope.append_child("NetworkSection").append_child("Info").text().set("Networks");
    pugi::xml_node system = envelope.append_child("VirtualSystem");
    system.append_attribute("ovf:id") = machine.name.c_str();
    system.append_child("Info").text().set("A virtual machine");
    system.append_child("Name").text().set(machine.name.c_str());
    pugi::xml_node hardware = system.append_child("VirtualHardwareSection");
    hardware.append_child("Info").text().set("Virtual hardware");
    pugi::xml_node settings = hardware.append_child("System");
    settings.append_child("vssd:ElementName").text().set("Virtual Hardware Family");
    settings.append_child("vssd:InstanceID").text().set("0");
    settings.append_child("vssd:VirtualSystemIdentifier").text().set(machine.name.c_str());
    settings.append_child("vssd:VirtualSystemType").text().set("vmx-13");
    int id = 1;
    add_item(
        hardware, id++, Resource::Processor, fmt::format("{} virtual CPUs", machine.vcpus),
        {{"AllocationUnits", "hertz * 10^6"}, {"VirtualQuantity", std::to_string(machine.vcpus)}});
    add_item(hardware, id++, Resource::Memory, fmt::format("{} MiB of memory", machine.memory_mib),
             {{"AllocationUnits", "byte * 2^20"},
              {"VirtualQuantity", std::to_string(machine.memory_mib)}});
    add_disks(envelope, hardware, machine, id);
    add_networks(envelope, hardware, machine, id);
    if (machine.uefi) {
        pugi::xml_node config = hardware.append_child("vmw:Config");
        config.append_attribute("ovf:required") = "false";
        config.append_attribute("vmw:key") = "firmware";
        config.append_attribute("vmw:value") = "efi";
    }
    std::ostringstream out;
    document.save(out, "  ");
    return out.str();
}

Result<std::vector<OvfDigest>> read_ovf_manifest(std::string_view content) {
    std::vector<OvfDigest> digests;
    while (!content.empty()) {
        const size_t end = std::min(content.find('\n'), content.size());
        std::string_view line = content.substr(0, end);
        content.remove_prefix(std::min(end + 1, content.size()));
        if (line.ends_with('\r')) {
            line.remove_suffix(1);
        }
        if (line.empty()) {
            continue;
        }
        const size_t open = line.find('(');
        const size_t close = line.rfind(")=");
        if (open == std::string_view::npos || close == std::string_view::npos || close < open) {
            return Error::corrupt("the manifest has the line \"{}\"", line.substr(0, 80));
        }
        std::string_view hex = line.substr(close + 2);
        while (hex.starts_with(' ')) {
            hex.remove_prefix(1);
        }
        OvfDigest digest{std::string(line.substr(open + 1, close - open - 1)),
                         std::string(line.substr(0, open)), std::string(hex)};
        std::ranges::transform(digest.hex, digest.hex.begin(),
                               [](unsigned char c) { return std::tolower(c); });
        digests.push_back(std::move(digest));
    }
    return digests;
}

std::string write_ovf_manifest(const std::vector<OvfDigest>& digests) {
    std::string out;
    for (const OvfDigest& digest : digests) {
        out += fmt::format("{}({})= {}\n", digest.algorithm, digest.file, digest.hex);
    }
    return out;
}

}  // namespace kumoi::cli
