// The devices of a server that its user gave names to (Nova's device role tags): where the guest
// finds each, as meta_data.json lists them and Nova keeps them (InstanceDeviceMetadata). Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "compute/block_device.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct TaggedDevice {
    enum class Kind { Nic, Disk } kind = Kind::Nic;
    std::string mac;      // of a card
    std::string serial;   // of a volume: its id; empty: none
    std::string bus;      // pci, scsi
    std::string address;  // "0000:00:03.0"; empty: not known
    std::string tag;

    bool operator==(const TaggedDevice&) const = default;
};

// Where a disk is in its guest, as a driver knows it.
struct DiskPlace {
    std::string disk;  // a volume's id; kRootDisk, kEphemeralDisk, kSwapDisk
    std::string bus;
    std::string address;
};
constexpr char kRootDisk[] = "root";  // whether it is a volume or not
constexpr char kEphemeralDisk[] = "ephemeral0";
constexpr char kSwapDisk[] = "swap";

std::string pci_address(unsigned slot);  // on bus 0

// Network requests of a build say the tags; `vifs` are what became of them, in their order.
void tag_vifs(std::vector<VifInfo>& vifs, const std::vector<RequestedNetwork>& requested);

// Those with a tag.
std::vector<TaggedDevice> tagged_nics(const std::vector<VifInfo>& vifs);  // slots are assigned
std::vector<TaggedDevice> tagged_disks(const std::vector<BlockDevice>& devices,
                                       const std::vector<DiskPlace>& places);

// The member `devices` of meta_data.json, as Nova writes it.
Json devices_json(const std::vector<TaggedDevice>& devices, bool with_trust);

}  // namespace kumoi::compute
