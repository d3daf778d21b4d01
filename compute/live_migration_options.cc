#include "compute/live_migration_options.h"

#include <algorithm>

namespace kumoi::compute {
namespace {

constexpr int64_t kGigabytesMin = 2;  // as in Nova: small servers get some time too
constexpr int64_t kMibPerGib = 1024;

void add_times(OptionTable& table) {
    table.add({"libvirt", "live_migration_downtime", OptionType::Integer, "500",
               "Milliseconds a guest may stand still at the end of its live migration.", 100,
               600000});
    table.add({"libvirt", "live_migration_downtime_steps", OptionType::Integer, "10",
               "In how many steps that goal is reached; the first is the strictest.", 3, 1000});
    table.add({"libvirt", "live_migration_downtime_delay", OptionType::Integer, "75",
               "Seconds a step lasts, for each GiB of the server's memory and of the disks that "
               "come along (at least 2).",
               3, 86400});
    table.add({"libvirt", "live_migration_completion_timeout", OptionType::Integer, "800",
               "Seconds a live migration may take, for each GiB of the server's memory and of the "
               "disks that come along (at least 2). 0: no limit.",
               0, 86400});
    table.add({"libvirt",
               "live_migration_timeout_action",
               OptionType::String,
               "abort",
               "What happens then. abort: the server stays. force_complete: it stops until all is "
               "copied, or runs there before (live_migration_permit_post_copy).",
               {},
               {},
               {"abort", "force_complete"}});
}

}  // namespace

void add_live_migration_options(OptionTable& table) {
    table.add({"DEFAULT", "max_concurrent_live_migrations", OptionType::Integer, "1",
               "Servers that leave this node at the same time; others wait. 0: no limit.", 0,
               1000});
    table.add(
        {"compute", "live_migration_wait_for_vif_plug", OptionType::Boolean, "true",
         "OpenStack: a live migration begins when Neutron says that the ports are wired at "
         "the destination, where it says so before the guest is there (hybrid Open vSwitch)."});
    add_times(table);
    table.add({"libvirt", "live_migration_permit_post_copy", OptionType::Boolean, "false",
               "A guest that does not converge may run at the destination before all of its memory "
               "is there. A crash of either host then ends it."});
    table.add({"libvirt", "live_migration_permit_auto_converge", OptionType::Boolean, "false",
               "A guest that does not converge may be slowed down."});
    table.add({"libvirt", "live_migration_bandwidth", OptionType::Integer, "0",
               "MiB a second that one live migration may use. 0: no limit.", 0, 1 << 20});
    table.add({"libvirt", "live_migration_parallel_connections", OptionType::Integer, "1",
               "Connections that one live migration uses.", 1, 64});
    table.add({"libvirt", "live_migration_inbound_addr", OptionType::String, "",
               "Address at which other nodes reach this one with live migrations. Empty: my_ip."});
}

LiveMigrationSettings LiveMigrationSettings::from_config(const Config& config) {
    LiveMigrationSettings settings;
    settings.migrations_max = config.integer("DEFAULT", "max_concurrent_live_migrations");
    settings.wait_for_vif_plug = config.boolean("compute", "live_migration_wait_for_vif_plug");
    settings.downtime_ms = config.integer("libvirt", "live_migration_downtime");
    settings.downtime_steps = config.integer("libvirt", "live_migration_downtime_steps");
    settings.downtime_delay_s = config.integer("libvirt", "live_migration_downtime_delay");
    settings.completion_timeout_s = config.integer("libvirt", "live_migration_completion_timeout");
    settings.timeout_action = config.string("libvirt", "live_migration_timeout_action");
    settings.permit_post_copy = config.boolean("libvirt", "live_migration_permit_post_copy");
    settings.permit_auto_converge =
        config.boolean("libvirt", "live_migration_permit_auto_converge");
    settings.bandwidth_mib_s = config.integer("libvirt", "live_migration_bandwidth");
    settings.parallel_connections =
        config.integer("libvirt", "live_migration_parallel_connections");
    return settings;
}

LiveMigrationOptions LiveMigrationSettings::for_server(const Instance& instance,
                                                       bool block_migration) const {
    const Flavor& flavor = instance.flavor;
    int64_t gigabytes = (flavor.memory_mb + kMibPerGib - 1) / kMibPerGib;
    if (block_migration) {
        gigabytes += flavor.root_gb + flavor.ephemeral_gb;
    }
    gigabytes = std::max(gigabytes, kGigabytesMin);
    LiveMigrationOptions options;
    options.downtime_ms = downtime_ms;
    options.downtime_steps = downtime_steps;
    options.downtime_delay_s = downtime_delay_s * gigabytes;
    options.bandwidth_bytes_s = static_cast<uint64_t>(bandwidth_mib_s) << 20;
    options.auto_converge = permit_auto_converge;
    options.post_copy = permit_post_copy;
    options.parallel_connections = parallel_connections;
    options.completion_timeout_s = completion_timeout_s * gigabytes;
    options.timeout_action = timeout_action == "force_complete"
                                 ? LiveMigrationOptions::TimeoutAction::ForceComplete
                                 : LiveMigrationOptions::TimeoutAction::Abort;
    return options;
}

}  // namespace kumoi::compute
