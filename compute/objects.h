// The records a compute node and its control plane speak about, in Nova's words and units: memory
// in MiB, disks in GiB, states by Nova's own strings (see vm_states.h). Plain values, no behaviour.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kumoi::compute {

using Properties = std::map<std::string, std::string>;

struct Flavor {
    std::string flavor_id;  // what the API calls id: a uuid or any string the operator chose
    std::string name;
    int64_t memory_mb = 0;
    int64_t vcpus = 0;
    int64_t root_gb = 0;
    int64_t ephemeral_gb = 0;
    int64_t swap_mb = 0;
    double rxtx_factor = 1.0;
    bool disabled = false;
    bool is_public = true;
    std::optional<std::string> description;
    Properties extra_specs;

    bool operator==(const Flavor&) const = default;
};

struct ImageMeta {
    std::string id;
    std::string name;
    std::string status;  // Glance: queued, saving, active, ...
    std::string owner;
    std::string disk_format;       // raw, qcow2, aki, ari, ami, iso, ...
    std::string container_format;  // bare, aki, ari, ami
    uint64_t size = 0;             // bytes of the stored file
    std::string checksum;          // md5, hexadecimal
    std::string os_hash_algo;      // sha512
    std::string os_hash_value;
    int64_t min_disk_gb = 0;
    int64_t min_ram_mb = 0;
    Properties properties;  // kernel_id, ramdisk_id, os_command_line, hw_*, os_distro, ...

    bool operator==(const ImageMeta&) const = default;
};

struct FixedIp {
    std::string address;
    std::string subnet_id;
    std::string cidr;
    int prefix_length = 0;
    int ip_version = 4;
    std::optional<std::string> gateway;
    std::vector<std::string> dns_servers;
    std::vector<std::pair<std::string, std::string>> routes;  // destination CIDR, next hop
    bool enable_dhcp = true;  // of the subnet: the guest asks for its address
};

// One network interface of one server: what Nova's network_info holds for one VIF.
struct VifInfo {
    std::string port_id;
    std::string network_id;
    std::string network_name;
    std::string mac;
    int64_t mtu = 1500;
    std::vector<FixedIp> fixed_ips;
    std::vector<std::string> security_group_names;
    bool created_by_nova = true;  // deleted with the server; a user's own port is only unbound
    std::string tap_name;         // filled by the node once plugged
    unsigned pci_slot = 0;        // nic_slots.h; 0: none yet
    std::string tag;              // the user's name for it; empty: none
    bool detaching = false;       // asked to go, and not gone yet
    // OpenStack mode: how Neutron wants the port plugged here (binding:vif_type, vif_details).
    std::string vif_type;   // bridge, ovs, tap, vhostuser, unbound, binding_failed
    std::string vnic_type;  // normal, direct, macvtap, remote-managed, ...
    std::string bridge;     // what the port is joined to; empty: none
    std::string devname;    // "tap" and the start of the port's id, 14 characters
    Properties details;     // plain members of binding:vif_details: bridge_name, ovs_hybrid_plug
    bool active = true;     // false: network-vif-plugged is still to come
    std::string raw;        // this VIF as Nova writes it into the info cache; empty: not from there
};

struct RequestedNetwork {
    std::optional<std::string> network_id;
    std::optional<std::string> port_id;
    std::optional<std::string> fixed_ip;
    std::optional<std::string> tag;
};

struct Fault {
    int code = 500;
    std::string message;
    std::string details;
    int64_t created_ns = 0;
};

// What the running task needs to know besides the server, so that a restart can go on with it:
// written together with task_state, cleared with it. Passwords are never in it.
struct TaskArguments {
    std::string image_id;  // snapshot, backup, shelve: the image to fill; rescue: the one to boot
    std::string backup_type;                            // backup: which rotation
    int64_t rotation = 0;                               // backup: how many of that type stay
    bool preserve_ephemeral = false;                    // rebuild
    bool reimage_boot_volume = false;                   // rebuild: image_id goes on the root volume
    std::map<std::string, std::string> injected_files;  // rebuild, before 2.57
    std::string old_vm_state;                           // where a failure goes back to

    bool operator==(const TaskArguments&) const = default;
};

// One server. Times are wall-clock nanoseconds, 0 = never.
struct Instance {
    int64_t id = 0;  // the number in Nova's instance name, "instance-0000002a"
    std::string uuid;
    std::string project_id;
    std::string user_id;
    std::string display_name;
    std::string hostname;
    std::optional<std::string> display_description;
    std::string reservation_id;
    int64_t launch_index = 0;
    std::string vm_state;                   // vm_states.h
    std::optional<std::string> task_state;  // vm_states.h
    TaskArguments task_arguments;
    int power_state = 0;  // vm_states.h
    std::string host;
    std::string node;
    std::string availability_zone;                        // of the host
    std::optional<std::string> pinned_availability_zone;  // what the user asked for
    std::string image_id;                                 // empty when booted from a volume
    Flavor flavor;                                        // as it was at creation or resize
    ImageMeta image;                                      // as it was at creation or rebuild
    // While a resize is neither confirmed nor reverted both flavors are held: new_flavor from the
    // request on, old_flavor from the moment that `flavor` became the new one.
    std::optional<Flavor> old_flavor;
    std::optional<Flavor> new_flavor;
    std::string key_name;
    std::string key_data;   // public key text
    std::string user_data;  // base64, as sent
    bool config_drive = false;
    bool auto_disk_config = false;
    std::string access_ip_v4;
    std::string access_ip_v6;
    std::string admin_password;  // only while building; never stored in clear
    Properties metadata;
    Properties system_metadata;
    std::vector<std::string> tags;
    std::vector<std::string> security_groups;  // names
    std::vector<VifInfo> network_info;
    bool locked = false;
    std::optional<std::string> locked_reason;
    std::string locked_by;  // "owner" or "admin"
    int64_t created_ns = 0;
    int64_t updated_ns = 0;
    int64_t launched_ns = 0;
    int64_t terminated_ns = 0;
    int64_t deleted_ns = 0;
    int progress = 0;
    std::optional<Fault> fault;  // the newest
};

// The flavor that is held besides instance.flavor; nullptr when no resize is under way.
inline const Flavor* other_flavor(const Instance& instance) {
    if (instance.old_flavor) {
        return &*instance.old_flavor;
    }
    return instance.new_flavor ? &*instance.new_flavor : nullptr;
}

// One move of a server, from size to size or host to host, as Nova's Migration.
struct Migration {
    int64_t id = 0;
    std::string uuid;
    std::string instance_uuid;
    std::string migration_type;  // resize, migration
    std::string status;          // pre-migrating, migrating, post-migrating, finished, confirming,
                                 // confirmed, reverting, reverted, error
    std::string source_compute;
    std::string source_node;
    std::string dest_compute;
    std::string dest_node;
    std::string dest_host;   // address
    int64_t old_flavor = 0;  // number of the flavor's record, as Nova's instance_type_id
    int64_t new_flavor = 0;
    std::string user_id;
    std::string project_id;
    int64_t created_ns = 0;
    int64_t updated_ns = 0;
};

// What one compute node has and uses, as the resource tracker reports it.
struct ComputeNode {
    std::string uuid;
    std::string host;
    std::string hypervisor_hostname;
    std::string hypervisor_type = "kumoi";
    int64_t hypervisor_version = 0;  // 1000 * 1000 * major + 1000 * minor + micro
    std::string host_ip;
    int64_t vcpus = 0;
    int64_t vcpus_used = 0;
    int64_t memory_mb = 0;
    int64_t memory_mb_used = 0;
    int64_t memory_mb_reserved = 0;
    int64_t local_gb = 0;
    int64_t local_gb_used = 0;
    int64_t disk_available_least_gb = 0;
    int64_t running_vms = 0;
    int64_t current_workload = 0;
    double cpu_allocation_ratio = 4.0;
    double ram_allocation_ratio = 1.0;
    double disk_allocation_ratio = 1.0;
    std::string cpu_info_json;
    double uptime_s = 0;
    std::string load_average;  // "0.10, 0.20, 0.15"
    int64_t updated_ns = 0;
};

}  // namespace kumoi::compute
