#include "compute/manager/manager_options.h"

#include <unistd.h>

#include <array>

#include "base/file.h"
#include "base/uuid.h"

namespace kumoi::compute {
namespace {

std::string machine_name() {
    std::array<char, 256> name{};
    if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') {
        return "localhost";
    }
    return name.data();
}

}  // namespace

std::string configured_host(const Config& config) {
    const std::string host = config.string("DEFAULT", "host");
    return host.empty() ? machine_name() : host;
}

ManagerOptions ManagerOptions::from_config(const Config& config) {
    ManagerOptions options;
    options.host = configured_host(config);
    options.host_ip = config.string("DEFAULT", "my_ip");
    options.state_path = config.string("DEFAULT", "state_path");
    options.instances_path = config.string("DEFAULT", "instances_path");
    if (options.instances_path.empty()) {
        options.instances_path = options.state_path + "/instances";
    }
    options.driver = config.string("DEFAULT", "compute_driver");
    options.builds_max = config.integer("DEFAULT", "max_concurrent_builds");
    options.shutdown_timeout_s = config.integer("DEFAULT", "shutdown_timeout");
    options.report_interval_s = config.integer("DEFAULT", "report_interval");
    options.update_resources_interval_s = config.integer("DEFAULT", "update_resources_interval");
    options.sync_power_state_interval_s = config.integer("DEFAULT", "sync_power_state_interval");
    options.reserved_memory_mb = config.integer("DEFAULT", "reserved_host_memory_mb");
    options.cpu_allocation_ratio = config.floating("DEFAULT", "cpu_allocation_ratio");
    options.ram_allocation_ratio = config.floating("DEFAULT", "ram_allocation_ratio");
    options.disk_allocation_ratio = config.floating("DEFAULT", "disk_allocation_ratio");
    options.resume_guests_state_on_host_boot =
        config.boolean("DEFAULT", "resume_guests_state_on_host_boot");
    if (config.string("DEFAULT", "mode") == "openstack" &&
        !config.is_set("DEFAULT", "resume_guests_state_on_host_boot")) {
        options.resume_guests_state_on_host_boot = false;  // what a nova.conf without it means
    }
    options.image_cache_interval_s = config.integer("image_cache", "manager_interval");
    options.vif_plugging_timeout_s = config.integer("DEFAULT", "vif_plugging_timeout");
    options.vif_plugging_is_fatal = config.boolean("DEFAULT", "vif_plugging_is_fatal");
    options.shelved_offload_time_s = config.integer("DEFAULT", "shelved_offload_time");
    options.live_migration = LiveMigrationSettings::from_config(config);
    return options;
}

Result<std::string> load_or_make_compute_id(const std::string& state_path) {
    const std::string path = state_path + "/compute_id";
    if (path_exists(path)) {
        const std::string text = TRY(read_file(path, 4096));
        const auto uuid = Uuid::parse(text.substr(0, text.find_last_not_of(" \n\t\r") + 1));
        if (!uuid) {
            return Error::corrupt("{} does not hold a UUID", path)
                .with_hint("Restore it from a backup; it is this node's identity.");
        }
        return uuid->text();
    }
    TRY(make_directories(state_path));
    SystemRandom random;
    const std::string text = Uuid::generate(random).text();
    TRY(write_file_atomic(path, text, 0644));
    return text;
}

}  // namespace kumoi::compute
