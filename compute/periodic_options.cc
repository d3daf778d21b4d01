#include "compute/periodic_options.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kYearS = 365 * 86400;
constexpr char kOff[] = " 0: every 60 seconds. -1: never.";

void add_interval(OptionTable& table, const char* name, const char* value,
                  const std::string& what) {
    table.add({"DEFAULT", name, OptionType::Integer, value,
               "OpenStack: seconds between " + what + kOff, -1, kYearS});
}

}  // namespace

PeriodicOptions PeriodicOptions::from_config(const Config& config) {
    const auto number = [&](const char* name) { return config.integer("DEFAULT", name); };
    PeriodicOptions options;
    options.heal_info_cache_interval_s = number("heal_instance_info_cache_interval");
    options.scheduler_sync_interval_s = number("scheduler_instance_sync_interval");
    options.instance_build_timeout_s = number("instance_build_timeout");
    options.reboot_timeout_s = number("reboot_timeout");
    options.rescue_timeout_s = number("rescue_timeout");
    options.resize_confirm_window_s = number("resize_confirm_window");
    options.shelved_offload_time_s = number("shelved_offload_time");
    options.shelved_poll_interval_s = number("shelved_poll_interval");
    options.reclaim_instance_interval_s = number("reclaim_instance_interval");
    options.instance_delete_interval_s = number("instance_delete_interval");
    options.delete_attempts_max = number("maximum_instance_delete_attempts");
    options.running_deleted_action = config.string("DEFAULT", "running_deleted_instance_action");
    options.running_deleted_poll_interval_s = number("running_deleted_instance_poll_interval");
    options.running_deleted_timeout_s = number("running_deleted_instance_timeout");
    options.usage_audit = config.boolean("DEFAULT", "instance_usage_audit");
    options.usage_audit_period = config.string("DEFAULT", "instance_usage_audit_period");
    return options;
}

void add_periodic_options(OptionTable& table) {
    add_interval(table, "heal_instance_info_cache_interval", "60",
                 "two refreshes of a server's network from Neutron, one server at a time. Where "
                 "the release is 2026.1 and this is not set: never, as there.");
    add_interval(table, "scheduler_instance_sync_interval", "120",
                 "two messages that tell the schedulers which servers are here.");
    table.add({"DEFAULT", "instance_build_timeout", OptionType::Integer, "0",
               "OpenStack: seconds after which a server that is still being built is in ERROR. 0: "
               "never.",
               0, kYearS});
    table.add({"DEFAULT", "reboot_timeout", OptionType::Integer, "0",
               "OpenStack: seconds after which a reboot that has not ended becomes a hard one. 0: "
               "never.",
               0, kYearS});
    add_interval(table, "shelved_poll_interval", "3600",
                 "two looks for shelved servers that are to leave this host after "
                 "shelved_offload_time.");
    add_interval(table, "instance_delete_interval", "300",
                 "two looks for what deleted servers, failed migrations and console tokens left "
                 "behind on this host.");
    table.add({"DEFAULT", "maximum_instance_delete_attempts", OptionType::Integer, "5",
               "OpenStack: how often the rest of a deleted server is tried to be removed.", 1,
               1000});
    table.add({"DEFAULT",
               "running_deleted_instance_action",
               OptionType::String,
               "reap",
               "OpenStack: what becomes of a guest whose server is deleted. reap: it is removed.",
               {},
               {},
               {"noop", "log", "shutdown", "reap"}});
    add_interval(table, "running_deleted_instance_poll_interval", "1800",
                 "two looks for guests whose servers are deleted.");
    table.add({"DEFAULT", "running_deleted_instance_timeout", OptionType::Integer, "0",
               "OpenStack: seconds a server must have been deleted before its guest counts as "
               "left behind.",
               0, kYearS});
    table.add({"DEFAULT", "instance_usage_audit", OptionType::Boolean, "false",
               "OpenStack: whether this node tells, once in a period, which servers used it "
               "(compute.instance.exists)."});
    table.add({"DEFAULT", "instance_usage_audit_period", OptionType::String, "month",
               "OpenStack: hour, day, month or year; month@15 begins on the 15th."});
    table.add({"image_cache", "manager_interval", OptionType::Integer, "2400",
               "Seconds between two looks for cached images nobody needs. 0: every 60 seconds. "
               "-1: never.",
               -1, kYearS});
}

}  // namespace kumoi::compute
