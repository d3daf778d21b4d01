// What Cinder says about reaching a volume (os-brick's connection_info, as Nova keeps it: {
// driver_volume_type, data{...}}), turned into what qemu-storage-daemon is told. Pure: hostile
// input gives an Error with Nova's exception in `fault`.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::compute {

struct VolumeSourceOptions {
    std::string initiator;  // IQN of this host
    int64_t nfs_user = 0;   // whose rights this host claims at NFS servers
    int64_t nfs_group = 0;
    std::string ceph_folder = "/etc/ceph";
};

struct VolumeSource {
    std::string type;   // iscsi, nfs, rbd, local
    std::string place;  // for people: "10.0.0.1:3260 iqn.2010-10.org.openstack:volume-... 1"
    Json node = Json::object();  // of blockdev-add, without a node-name
    // Objects of type secret that `node` names: id, content. Never on a command line.
    std::vector<std::pair<std::string, std::string>> secrets;
    // Ceph's key, when the connection does not bring it: from this file.
    std::string key_file;
    bool read_only = false;

    bool wants_low_port() const { return type == "nfs"; }  // servers may insist on one
    bool wants_host_files() const { return type == "local"; }
};

// VolumeDriverNotFound: a type that is not offered. VolumeEncryptionNotSupported. InvalidVolume.
Result<VolumeSource> parse_connection_info(const Json& connection_info,
                                           const VolumeSourceOptions& options);

// The key in a keyring file of Ceph's: "key = AQ...==".
Result<std::string> key_in_keyring(std::string_view text);

}  // namespace kumoi::compute
