#include "api/node_volumes.h"

#include <unistd.h>

#include <chrono>
#include <thread>

#include "base/log.h"
#include "base/subprocess.h"

namespace kumoi::api {
namespace {

void pass_time(int64_t milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

// Missing is told when the first volume comes: many hosts have none.
std::string program_of(const Config& config) {
    std::string program = config.string("kumoi", "storage_daemon");
    if (program.empty()) {
        auto found = find_program("qemu-storage-daemon");
        program = found.ok() ? std::move(*found) : "/usr/bin/qemu-storage-daemon";
    }
    return program;
}

compute::VolumeDaemonsOptions options_from(const Config& config,
                                           const compute::ManagerOptions& manager) {
    compute::VolumeDaemonsOptions options;
    options.folder = manager.state_path + "/volumes";
    options.host = manager.host;
    options.host_ip = config.string("DEFAULT", "my_block_storage_ip");
    if (options.host_ip.empty() || options.host_ip == "$my_ip") {
        options.host_ip = manager.host_ip;
    }
    options.daemon.program = program_of(config);
    options.daemon.uid_first =
        static_cast<uint32_t>(config.integer("kumoi", "storage_daemon_uid_first"));
    options.daemon.source.nfs_user = static_cast<int64_t>(::geteuid());
    options.daemon.source.nfs_group = static_cast<int64_t>(::getegid());
    return options;
}

}  // namespace

Result<std::unique_ptr<NodeVolumes>> NodeVolumes::create(
    const Config& config, const compute::ManagerOptions& options, nova::ObjectClient& objects,
    clients::CinderClient& cinder, const Clock& clock, Random& random, bool simulated) {
    std::unique_ptr<NodeVolumes> made(new NodeVolumes(objects, cinder, clock, random));
    if (simulated) {
        made->host_ = std::make_unique<compute::NoVolumeDaemons>(options.host, options.host_ip);
    } else {
        auto daemons =
            TRY_CONTEXT(compute::VolumeDaemons::create(options_from(config, options), random),
                        "finding the volumes of this host");
        made->daemons_ = daemons.get();
        made->host_ = std::move(daemons);
    }
    made->services_ = std::make_unique<compute::VolumeServices>(
        compute::VolumeServices{made->records_, made->volumes_, *made->host_});
    made->services_->create_retries = config.integer("DEFAULT", "block_device_allocate_retries");
    made->services_->create_interval_ms =
        config.integer("DEFAULT", "block_device_allocate_retries_interval") * 1000;
    made->services_->sleep = pass_time;
    return made;
}

void NodeVolumes::stop() {
    if (daemons_ != nullptr) {
        daemons_->stop();
    }
}

void NodeVolumes::start(compute::VolumeDaemons::Restarted restarted) {
    if (daemons_ != nullptr) {
        daemons_->start(std::move(restarted));
    }
}

}  // namespace kumoi::api
