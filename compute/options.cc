#include "compute/options.h"

#include "compute/driver/disk_leases.h"
#include "compute/driver/live_link_options.h"
#include "compute/live_migration_options.h"
#include "compute/periodic_options.h"

namespace kumoi::compute {
namespace {

void add_default_options(OptionTable& table) {
    table.add({"DEFAULT",
               "mode",
               OptionType::String,
               "standalone",
               "How this node finds its control plane. standalone: it is in this process. member: "
               "in that of another node, at transport_url. openstack: a real OpenStack's.",
               {},
               {},
               {"standalone", "member", "openstack"}});
    table.add({"DEFAULT", "host", OptionType::String, "",
               "Name of this node in the API and in records. Empty: the machine's host name. Never "
               "change it while servers are here."});
    table.add({"DEFAULT", "my_ip", OptionType::String, "127.0.0.1",
               "Address of this node as shown by hypervisor show."});
    table.add(
        {"DEFAULT", "state_path", OptionType::Path, "/var/lib/kumoi",
         "Folder of everything kumoi keeps: database, images, instances, journal, credentials."});
    table.add({"DEFAULT", "instances_path", OptionType::Path, "",
               "Folder with one folder a server. Empty: instances below state_path."});
    table.add(
        {"DEFAULT",
         "compute_driver",
         OptionType::String,
         "kumoi",
         "What runs the servers. kumoi: one kumoi-vmm process a guest. simulated: nothing real, "
         "with the delays and failures of section [simulated]; for tests and load tests.",
         {},
         {},
         {"kumoi", "simulated"}});
    table.add({"DEFAULT", "log_file", OptionType::Path, "", "Log file. Empty: standard error."});
    table.add(
        {"DEFAULT", "debug", OptionType::Boolean, "false", "Writes debug lines to the log too."});
    table.add({"DEFAULT", "use_json", OptionType::Boolean, "false",
               "Writes the log as one JSON object a line."});
    table.add({"DEFAULT", "report_interval", OptionType::Integer, "10",
               "Seconds between two signs of life of this node's nova-compute service.", 1, 3600});
    table.add({"DEFAULT", "service_down_time", OptionType::Integer, "60",
               "Seconds without a sign of life after which a service counts as down.", 2, 86400});
    table.add({"DEFAULT", "update_resources_interval", OptionType::Integer, "60",
               "Seconds between two measurements of this node's resources. 0: 60. -1: never.", -1,
               86400});
    table.add(
        {"DEFAULT", "sync_power_state_interval", OptionType::Integer, "600",
         "Seconds between two comparisons of recorded and real power states. 0: 60. -1: never.", -1,
         86400});
    table.add({"DEFAULT", "max_concurrent_builds", OptionType::Integer, "10",
               "Servers this node builds at the same time.", 1, 1000});
    table.add({"DEFAULT", "shutdown_timeout", OptionType::Integer, "60",
               "Seconds a guest gets to shut down by itself before its power is cut.", 0, 3600});
    table.add({"DEFAULT", "reserved_host_memory_mb", OptionType::Integer, "512",
               "MiB of memory kept for the host and never given to servers.", 0, 1 << 24});
    table.add({"DEFAULT", "cpu_allocation_ratio", OptionType::Float, "4.0",
               "How many virtual CPUs a host thread may carry."});
    table.add({"DEFAULT", "ram_allocation_ratio", OptionType::Float, "1.0",
               "How much memory may be given to servers, as a share of what the host has."});
    table.add({"DEFAULT", "disk_allocation_ratio", OptionType::Float, "1.0",
               "How much disk may be promised to servers, as a share of what the host has."});
    table.add({"DEFAULT", "force_config_drive", OptionType::Boolean, "false",
               "Gives every server a config drive, also when the request does not ask for one."});
    table.add({"DEFAULT", "use_cow_images", OptionType::Boolean, "true",
               "Makes each root disk a linked clone (qcow2) of its image in the cache: created at "
               "once, and holding only what the guest wrote. False: a full raw copy."});
    table.add({"DEFAULT", "force_raw_images", OptionType::Boolean, "true",
               "Converts images to raw in the cache; linked clones then read a raw file. False: a "
               "qcow2 image stays one below linked clones, which saves space and costs some speed. "
               "Without use_cow_images they are always converted."});
    table.add({"DEFAULT", "resume_guests_state_on_host_boot", OptionType::Boolean, "true",
               "Starts the servers again that were running when the host went down."});
}

void add_lifecycle_options(OptionTable& table) {
    constexpr int64_t kYearS = 365 * 86400;
    table.add(
        {"DEFAULT", "allow_resize_to_same_host", OptionType::Boolean, "true",
         "Lets a server be resized (and cold migrated) on the host it is on. With one node this "
         "is the only way there is."});
    table.add(
        {"DEFAULT", "resize_confirm_window", OptionType::Integer, "0",
         "Seconds after which a resize that nobody confirmed or reverted is confirmed. 0: never.",
         0, kYearS});
    table.add({"DEFAULT", "rescue_timeout", OptionType::Integer, "0",
               "Seconds after which a rescued server is unrescued. 0: never.", 0, kYearS});
    table.add({"DEFAULT", "shelved_offload_time", OptionType::Integer, "0",
               "Seconds a shelved server stays on its host before it is offloaded. 0: at once. -1: "
               "until somebody asks.",
               -1, kYearS});
    table.add({"DEFAULT", "reclaim_instance_interval", OptionType::Integer, "0",
               "Seconds a deleted server is kept (SOFT_DELETED) and can be restored. 0: it goes at "
               "once.",
               0, kYearS});
}

void add_api_options(OptionTable& table) {
    table.add({"api", "listen", OptionType::HostPort, "127.0.0.1:8774",
               "Where the Compute API listens."});
    table.add({"api", "worker_threads", OptionType::Integer, "8",
               "Threads that run request handlers, for each API.", 1, 256});
    table.add({"api", "osapi_max_limit", OptionType::Integer, "1000",
               "Most items one page of a list holds.", 1, 100000});
    table.add({"identity", "listen", OptionType::HostPort, "127.0.0.1:5000",
               "Where the Identity API listens."});
    table.add({"identity", "public_host", OptionType::String, "",
               "Host name or address that the catalog's endpoints carry. Empty: the address of "
               "each listen option."});
    table.add({"identity", "region", OptionType::String, "RegionOne",
               "Region of the catalog's endpoints."});
    table.add({"identity", "token_expiration", OptionType::Integer, "3600",
               "Seconds a token is valid.", 60, 604800});
    table.add({"identity",
               "admin_password",
               OptionType::String,
               "",
               "Password of the user admin, set at the first start. Empty: one is made up. Either "
               "way it is "
               "written to admin-openrc and clouds.yaml in state_path, readable by root only.",
               {},
               {},
               {},
               true});
    table.add({"image", "listen", OptionType::HostPort, "127.0.0.1:9292",
               "Where the Image API listens."});
    table.add({"image", "size_max_gb", OptionType::Integer, "1024",
               "Largest image that may be uploaded, GiB.", 1, 1 << 20});
    table.add({"network", "listen", OptionType::HostPort, "127.0.0.1:9696",
               "Where the Network API listens."});
    table.add({"network", "nat", OptionType::Boolean, "false",
               "Lets servers reach other networks through this host by masquerading (nftables), "
               "and turns "
               "on IP forwarding."});
    table.add({"network", "dns_servers", OptionType::List, "",
               "Name servers told to guests of subnets that name none."});
    table.add({"network", "real_devices", OptionType::Boolean, "true",
               "Makes bridges, TAPs, DHCP and filters on this host. False: only records, for the "
               "simulated "
               "driver and for machines without the rights."});
    table.add({"vnc", "enabled", OptionType::Boolean, "true",
               "Gives servers that boot by firmware a display, and their users its address."});
    table.add({"vnc", "novncproxy_listen", OptionType::HostPort, "127.0.0.1:6080",
               "Where the console proxy listens: noVNC's files and the WebSockets of VNC and "
               "serial consoles. One beyond this host belongs behind TLS."});
    table.add({"vnc", "novncproxy_base_url", OptionType::String, "",
               "Address of noVNC's page as users reach it. Empty: http at [identity] public_host "
               "or novncproxy_listen, vnc_lite.html."});
    table.add({"vnc", "novnc_path", OptionType::Path, "/usr/share/novnc",
               "Folder of noVNC's files (Debian package novnc). Without it the WebSockets work all "
               "the same."});
    table.add({"serial_console", "enabled", OptionType::Boolean, "true",
               "Gives users the addresses of serial consoles."});
    table.add({"serial_console", "base_url", OptionType::String, "",
               "Address of the serial consoles' WebSocket. Empty: ws where the proxy listens."});
    table.add({"consoleauth", "token_ttl", OptionType::Integer, "600",
               "Seconds the address of a console can be opened. An open one stays open.", 1,
               86400});
    table.add({"console", "allowed_origins", OptionType::List, "",
               "Host names of pages, besides the proxy's own, whose scripts may open consoles."});
    table.add({"metrics", "listen", OptionType::HostPort, "127.0.0.1:9177",
               "Where Prometheus reads /metrics."});
}

void add_card_options(OptionTable& table) {
    table.add({"kumoi",
               "vhost_net",
               OptionType::String,
               "off",
               "Whether the kernel's vhost-net carries the frames of network cards. auto: where "
               "there is /dev/vhost-net and the card has no bandwidth limits; on: or the guest is "
               "refused.",
               {},
               {},
               {"off", "auto", "on"}});
    table.add({"kumoi", "device_detach_attempts", OptionType::Integer, "8",
               "How often a running guest is asked to let go of a network card before the detach "
               "fails, as Nova's libvirt driver does.",
               1, 100});
    table.add({"kumoi", "device_detach_timeout", OptionType::Integer, "20",
               "Seconds that the guest has each time.", 1, 3600});
    table.add({"kumoi", "guest_agent_timeout", OptionType::Integer, "10",
               "Seconds that the agent in a guest has to show that it listens.", 1, 3600});
}

void add_simulated_options(OptionTable& table) {
    table.add({"simulated", "seed", OptionType::Integer, "1",
               "Seed of the simulated driver's random stream."});
    table.add({"simulated", "vcpus", OptionType::Integer, "64", "Host threads it pretends to have.",
               1, 1 << 20});
    table.add({"simulated", "memory_mb", OptionType::Integer, "262144",
               "MiB of memory it pretends to have.", 1, 1LL << 40});
    table.add({"simulated", "local_gb", OptionType::Integer, "4096",
               "GiB of disk it pretends to have.", 1, 1LL << 40});
    table.add({"simulated", "spawn_delay_ms", OptionType::Integer, "0",
               "Milliseconds each spawn takes.", 0, 600000});
    table.add({"simulated", "operation_delay_ms", OptionType::Integer, "0",
               "Milliseconds each other verb takes.", 0, 600000});
    table.add({"simulated", "failure_rate", OptionType::Float, "0",
               "Share of spawns that fail, 0 to 1."});
    table.add({"simulated", "migration_bandwidth", OptionType::Integer, "8192",
               "MiB a second that a live migration copies.", 1, 1 << 20});
    table.add({"simulated", "dirty_rate", OptionType::Integer, "0",
               "MiB a second that each guest writes while it is migrated. More than "
               "migration_bandwidth: it does not converge.",
               0, 1 << 20});
    table.add({"simulated", "migration_failure_rate", OptionType::Float, "0",
               "Share of live migrations that fail, 0 to 1."});
    table.add({"simulated", "shared_storage", OptionType::Boolean, "false",
               "Whether its servers' disks count as being on shared storage."});
}

// Of a host in a real cloud.
void add_host_options(OptionTable& table) {
    table.add(
        {"kumoi", "host_power_command", OptionType::String, "",
         "OpenStack: what turns this host off (poweroff) or starts it anew (reboot), the word "
         "is its last argument: systemctl. Empty: such requests are refused."});
    table.add({"compute", "provider_config_location", OptionType::Path,
               "/etc/nova/provider_config/",
               "OpenStack: folder of *.yaml files with what this host's resource provider has "
               "besides (Nova's provider.yaml). Read at start."});
    table.add({"workarounds", "disable_group_policy_check_upcall", OptionType::Boolean, "false",
               "OpenStack: no second look at a server's group when it arrives on this host, for "
               "cells whose conductors cannot reach the API's database."});
}

void add_node_options(OptionTable& table) {
    table.add(
        {"kumoi", "vmm_path", OptionType::Path, "",
         "The kumoi-vmm program. Empty: the one beside kumoi-compute, else the one in PATH."});
    table.add({"kumoi", "cpu_model", OptionType::String, "host",
               "CPU model shown to guests: host, or a named baseline of kumoi-vmm --help."});
    table.add({"kumoi", "cpu_features_masked", OptionType::List, "",
               "CPU features hidden from every guest, by name."});
    table.add({"kumoi", "kernel_append", OptionType::String, "",
               "Words added to the kernel command line of every directly booted guest."});
    table.add({"kumoi", "bios_firmware", OptionType::Path, "/usr/share/seabios/bios-256k.bin",
               "Firmware of servers whose image has no kernel_id: SeaBIOS."});
    table.add({"kumoi", "uefi_firmware", OptionType::Path, "/usr/share/OVMF/OVMF_CODE_4M.fd",
               "Firmware of servers whose image has hw_firmware_type=uefi: OVMF's code."});
    table.add({"kumoi", "uefi_variables", OptionType::Path, "/usr/share/OVMF/OVMF_VARS_4M.fd",
               "OVMF's empty variables; each such server gets a copy, nvram.fd."});
    table.add({"kumoi", "vga_firmware", OptionType::Path,
               "/usr/share/seabios/vgabios-bochs-display.bin",
               "Option ROM that draws a BIOS guest's text on its display: SeaBIOS's vgabios."});
    table.add({"kumoi", "console_log_size_max", OptionType::Integer, "1048576",
               "Bytes kept of each server's console log.", 65536, 1 << 30});
    table.add(
        {"kumoi",
         "snapshot_image_format",
         OptionType::String,
         "qcow2",
         "Format of the images made from servers: qcow2 holds only what was written, raw is as "
         "large as the disk.",
         {},
         {},
         {"qcow2", "raw"}});
    table.add(
        {"kumoi", "migration_ports", OptionType::String, "49152-49215",
         "Ports, first-last, of which this host takes one on my_ip to give the folders of servers "
         "that move to another host, to that host alone (TLS 1.3 with a key made for the move). "
         "Open them between compute hosts."});
    add_live_link_options(table);
    DiskLeases::add_options(table);
    table.add(
        {"kumoi", "cgroup_parent", OptionType::String, "kumoi",
         "Control group in which each guest gets one of its own, for its CPU time, memory and "
         "processes: a name below the daemon's own group, or with a leading / one from the "
         "root. Empty: guests stay in the daemon's group, without limits."});
    table.add({"kumoi", "guest_memory_overhead", OptionType::Integer, "512",
               "MiB that a guest's process may use beside the guest's RAM, page cache of its disks "
               "included; with the RAM and a 64th of it the limit of its control group. 0: no "
               "limit."});
    add_card_options(table);
    table.add({"kumoi", "start_timeout", OptionType::Integer, "30",
               "Seconds a kumoi-vmm process may take to answer after it was started.", 1, 600});
    table.add({"compute", "cpu_dedicated_set", OptionType::String, "",
               "Host processors for servers with hw:cpu_policy=dedicated, one for each vCPU: "
               "4-12,^8,15. Empty: no such servers here."});
    table.add({"compute", "cpu_shared_set", OptionType::String, "",
               "Host processors that the threads of all other servers stay on. Empty: any."});
    add_host_options(table);
    add_simulated_options(table);
}

void add_fleet_options(OptionTable& table) {
    table.add({"fleet", "verb_threads", OptionType::Integer, "64",
               "kumoi-compute --fleet: operations on servers that run at the same time, of all "
               "hosts together.",
               1, 1024});
    table.add({"fleet", "request_threads", OptionType::Integer, "16",
               "kumoi-compute --fleet: threads that answer RPC requests.", 1, 1024});
    table.add({"fleet", "housekeeping_threads", OptionType::Integer, "8",
               "kumoi-compute --fleet: threads for heartbeats and resource updates of all hosts.",
               1, 1024});
    table.add({"fleet", "start_threads", OptionType::Integer, "8",
               "kumoi-compute --fleet: hosts that register at the same time.", 1, 256});
}

void add_volume_options(OptionTable& table) {
    table.add({"DEFAULT", "my_block_storage_ip", OptionType::String, "",
               "Address of this node that storage sees, as Cinder is told. Empty: my_ip. With mode "
               "= openstack."});
    table.add({"DEFAULT", "block_device_allocate_retries", OptionType::Integer, "60",
               "How often a new volume is asked for its status before a server that boots from it "
               "is given up. With mode = openstack.",
               0, 100000});
    table.add({"DEFAULT", "block_device_allocate_retries_interval", OptionType::Integer, "3",
               "Seconds between two of these.", 0, 3600});
    table.add({"kumoi", "storage_daemon", OptionType::Path, "",
               "The qemu-storage-daemon that serves attached volumes. Empty: found in PATH."});
    table.add({"kumoi", "storage_daemon_uid_first", OptionType::Integer, "1879179264",
               "First of the 65536 user ids that the daemons of volumes run as, one a volume. 0: "
               "all run as this daemon does.",
               0, 4294901759});
}

void add_provider_options(OptionTable& table) {
    table.add({"DEFAULT", "initial_cpu_allocation_ratio", OptionType::Float, "4.0",
               "OpenStack: cpu_allocation_ratio of a host that is new in Placement and has none "
               "configured; later what Placement has stays. Unset: the release's own (Zed: 16)."});
    table.add({"DEFAULT", "initial_ram_allocation_ratio", OptionType::Float, "1.0",
               "OpenStack: the same for memory. Unset: the release's own (Zed: 1.5)."});
    table.add({"DEFAULT", "initial_disk_allocation_ratio", OptionType::Float, "1.0",
               "OpenStack: the same for disk."});
    table.add({"DEFAULT", "reserved_host_cpus", OptionType::Integer, "0",
               "OpenStack: shared processors kept for the host, in Placement.", 0, 8192});
    table.add({"DEFAULT", "reserved_host_disk_mb", OptionType::Integer, "0",
               "OpenStack: MiB of disk kept for the host, in Placement.", 0, 1LL << 40});
}

void add_openstack_options(OptionTable& table) {
    table.add({"DEFAULT", "vif_plugging_timeout", OptionType::Integer, "300",
               "OpenStack: seconds a new server waits for Neutron to wire its ports "
               "(network-vif-plugged). 0: it does not wait.",
               0, 86400});
    table.add({"DEFAULT", "vif_plugging_is_fatal", OptionType::Boolean, "true",
               "OpenStack: a server whose ports were not wired in time fails. False: it starts all "
               "the same."});
    table.add({"kumoi",
               "release",
               OptionType::String,
               "auto",
               "OpenStack: release of the cloud, which decides about versions of objects and "
               "messages. auto: that of its nova-conductors.",
               {},
               {},
               {"auto", "zed", "2026.1"}});
    table.add({"filter_scheduler", "track_instance_changes", OptionType::Boolean, "true",
               "OpenStack: tells the schedulers of servers that come and go."});
    table.add(
        {"vnc", "server_listen", OptionType::String, "127.0.0.1",
         "OpenStack: address on which servers' displays are reached by nova-novncproxy, ports "
         "5900 to 6899. Whoever reaches it sees them: it belongs on the cloud's own network."});
    table.add({"vnc", "server_proxyclient_address", OptionType::String, "127.0.0.1",
               "OpenStack: the same address as nova-novncproxy must use it."});
    table.add(
        {"serial_console", "proxyclient_address", OptionType::String, "127.0.0.1",
         "OpenStack: address on which servers' serial lines are reached by nova-serialproxy."});
    table.add(
        {"serial_console", "port_range", OptionType::String, "10000:20000",
         "OpenStack: ports for that, FIRST:END without END itself; one a server whose line was "
         "asked for."});
}

OptionTable make_table() {
    OptionTable table;
    add_default_options(table);
    add_lifecycle_options(table);
    add_periodic_options(table);
    add_live_migration_options(table);
    add_api_options(table);
    add_node_options(table);
    add_fleet_options(table);
    add_openstack_options(table);
    add_volume_options(table);
    add_provider_options(table);
    return table;
}

}  // namespace

OptionTable option_table() {
    return make_table();
}

const OptionTable& options() {
    static const OptionTable table = make_table();
    return table;
}

std::string describe_options(const OptionTable& table) {
    std::string out =
        "# Configuration of kumoi-compute\n\n"
        "Made by `kumoi-compute --describe-options`; a test compares. The file is oslo-style INI, "
        "by\n"
        "default `/etc/kumoi/kumoi.conf`; an unknown section or key is an error with a "
        "suggestion.\n"
        "`kumoi-compute --sample-config` prints a commented sample, `--check-config FILE` checks "
        "one.\n";
    std::string section;
    for (const Option& option : table.options()) {
        if (option.section != section) {
            section = option.section;
            out += fmt::format("\n## [{}]\n", section);
        }
        out += fmt::format("\n### `[{}] {}`\n{}\n", option.section, option.name, option.help);
        out += option.default_value.empty() ? "Default: empty."
                                            : fmt::format("Default: `{}`.", option.default_value);
        if (option.min && option.max) {
            out += fmt::format(" Range: {} to {}.", *option.min, *option.max);
        }
        if (!option.choices.empty()) {
            out += " Choices:";
            for (const std::string& choice : option.choices) {
                out += fmt::format(" `{}`", choice);
            }
            out += ".";
        }
        out += "\n";
    }
    return out;
}

}  // namespace kumoi::compute
