// InstanceFolder: where the files of one server are (docs/reference/instance-folder.md). Paths
// only; a value. Copying the folder of a stopped server is a backup of it.
#pragma once

#include <string>

#include "base/json.h"
#include "base/result.h"
#include "compute/objects.h"

namespace kumoi::compute {

// Longest path a unix socket may have (sockaddr_un), without the final zero.
constexpr size_t kSocketPathMax = 107;

class InstanceFolder {
public:
    InstanceFolder(const std::string& instances_path, const std::string& uuid)
        : path_(instances_path + "/" + uuid) {}

    const std::string& path() const { return path_; }
    std::string config() const { return path_ + "/config.json"; }        // the server's record
    std::string guest_config() const { return path_ + "/guest.json"; }   // what kumoi-vmm runs
    std::string disk() const { return path_ + "/disk"; }                 // root disk
    std::string disk_info() const { return path_ + "/disk.info"; }       // the format of it
    std::string config_drive() const { return path_ + "/disk.config"; }  // ISO 9660
    std::string ephemeral() const { return path_ + "/disk.eph0"; }       // formatted, empty
    std::string swap() const { return path_ + "/disk.swap"; }
    std::string cdrom() const { return path_ + "/disk.iso"; }        // the image, if it is an ISO
    std::string volumes() const { return path_ + "/volumes.json"; }  // disks served by back ends
    std::string nvram() const { return path_ + "/nvram.fd"; }        // UEFI variables
    std::string kernel() const { return path_ + "/kernel"; }
    std::string ramdisk() const { return path_ + "/ramdisk"; }
    std::string console_log() const { return path_ + "/console.log"; }
    std::string console_log_before() const { return path_ + "/console.log.1"; }
    std::string console_socket() const { return path_ + "/console.sock"; }
    std::string agent_socket() const { return path_ + "/agent.sock"; }  // the guest agent's
    std::string vnc_socket() const { return path_ + "/vnc.sock"; }
    std::string control_socket() const { return path_ + "/control.sock"; }
    std::string pid_file() const { return path_ + "/pid"; }          // written by kumoi-vmm
    std::string process() const { return path_ + "/process.json"; }  // pid and start time
    std::string cgroups() const { return path_ + "/cgroups.json"; }  // folders of its control group
    std::string lock() const { return path_ + "/lock"; }             // held while a VMM lives
    std::string vmm_log() const { return path_ + "/vmm.log"; }
    std::string saved_state() const { return path_ + "/state"; }  // of a suspended guest
    // While the server is rescued; rescue.json is written last and removed first.
    std::string rescue() const { return path_ + "/rescue.json"; }
    std::string rescue_disk() const { return path_ + "/disk.rescue"; }
    std::string rescue_config_drive() const { return path_ + "/disk.config.rescue"; }
    std::string rescue_kernel() const { return path_ + "/kernel.rescue"; }
    std::string rescue_ramdisk() const { return path_ + "/ramdisk.rescue"; }
    // Beside the folder, while a resize waits or a rebuild is made.
    std::string resize_kept() const { return path_ + "_resize"; }
    std::string resize_work() const { return path_ + "_resizing"; }
    std::string incoming() const { return path_ + "_incoming"; }  // from another host, not whole
    std::string rebuild_work() const { return path_ + "_rebuild"; }

    bool exists() const;

private:
    std::string path_;
};

// config.json: the record of a server as the node needs it to run it without any control plane. The
// administrator's password is never in it.
Json instance_to_json(const Instance& instance);
Result<Instance> instance_from_json(const Json& json);

}  // namespace kumoi::compute
