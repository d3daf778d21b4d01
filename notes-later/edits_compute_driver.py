exec(open('/tmp/slice2.py').read().split('# A. AcpiPm')[0])
p='compute/driver/guest_config.cc'
sub(p,'''    {"hw_mem_page_size", {"any", "small", "small"}},
''','')
sub(p,'''    {"hw:mem_page_size", {"any", "small", "small"}},
    {"hw:numa_nodes", {"1", "1", "1"}},
''','')
sub(p,'''    TRY(check_properties("Extra spec", instance.flavor.extra_specs, kExtraSpecs));
''','''    TRY(check_properties("Extra spec", instance.flavor.extra_specs, kExtraSpecs));
    TRY(check_guest_resources(instance));
''')
sub(p,'''"hw:cpu_realtime",''','''"hw:cpu_realtime",
                                                 "hw:cpu_thread_policy",
                                                 "hw:cpu_dedicated_mask",''')
sub(p,'#include "compute/driver/guest_config.h"\n','#include "compute/driver/guest_config.h"\n')
s=open(p).read()
s=s.replace('#include <span>\n','#include <span>\n\n#include "compute/driver/guest_resources.h"\n',1); open(p,'w').write(s)
p='compute/driver/kumoi_vmm_driver.cc'
sub(p,'''    const Json guest = guest_config(''','''    Json guest = guest_config(''')
sub(p,'''    TRY(write_file_atomic(folder.guest_config(), guest.dump_pretty(), 0600));
''','''    add_guest_resources(guest, instance, count_host_nodes());
    TRY(write_file_atomic(folder.guest_config(), guest.dump_pretty(), 0600));
''')
sub(p,'''#include "compute/driver/guest_diagnostics.h"
''','''#include "compute/driver/guest_diagnostics.h"
#include "compute/driver/guest_resources.h"
''')
sub(p,'''process_of(folder).start(), "starting''','''process_of(folder).start(guest_limits(instance)), "starting''')
sub(p,'''    options.guest.cpu_model =''','''    options.process.cgroup_parent = config.string("kumoi", "cgroup_parent");
    options.guest.cpu_model =''')
p='compute/driver/guest_process.h'
sub(p,'''    int64_t control_timeout_ms = 5'000;
''','''    int64_t control_timeout_ms = 5'000;
    std::string cgroup_parent;  // control groups of guests are made below it; empty: none are
''')
sub(p,'''    Result<void> start() const;
''','''    // The process is held to the limits by a control group of its own, from its first instruction.
    Result<void> start(const CgroupLimits& limits = {}) const;
''')
sub(p,'''    Result<void> wait_running(''','''    Result<std::optional<Cgroup>> make_cgroup(const CgroupLimits& limits) const;
    void remove_cgroup() const;
    Result<void> wait_running(''')
sub(p,'#include "base/clock.h"\n','#include "base/cgroup.h"\n#include "base/clock.h"\n')
p='compute/driver/guest_process.cc'
sub(p,'Result<void> GuestProcess::start() const {','Result<void> GuestProcess::start(const CgroupLimits& limits) const {')
sub(p,'''    daemon.directory = folder_.path();
''','''    daemon.directory = folder_.path();
    const std::optional<Cgroup> group = TRY(make_cgroup(limits));
    if (group) {
        daemon.cgroup_procs = group->procs_files();
    }
''')
sub(p,'''        ::waitpid(process.pid, nullptr, 0);
    }
    return started;
}
''','''        ::waitpid(process.pid, nullptr, 0);
        remove_cgroup();
    }
    return started;
}

// A group that is there is taken over: one of a daemon's earlier life. What the host cannot limit
// is told once a start; without any controller a guest runs as it would anywhere.
Result<std::optional<Cgroup>> GuestProcess::make_cgroup(const CgroupLimits& limits) const {
    if (options_.cgroup_parent.empty()) {
        return std::optional<Cgroup>();
    }
    const CgroupHost host = TRY(CgroupHost::detect());
    if (host.controllers.empty()) {
        log_warn("driver", "this host has no control groups: the guest runs without limits",
                 {{"folder", folder_.path()}});
        return std::optional<Cgroup>();
    }
    Cgroup group = TRY(Cgroup::create(host, cgroup_name()));
    TRY_CONTEXT(group.apply(limits), "limiting the guest");
    return std::optional(std::move(group));
}

std::string GuestProcess::cgroup_name() const {
    const std::string& path = folder_.path();
    return options_.cgroup_parent + "/" + path.substr(path.rfind('/') + 1);
}

void GuestProcess::remove_cgroup() const {
    if (options_.cgroup_parent.empty()) {
        return;
    }
    const auto host = CgroupHost::detect();
    if (!host) {
        return;
    }
    if (const auto removed = existing_cgroup(*host, cgroup_name()).remove(); !removed) {
        log_warn("driver", "a guest's control group stays", {{"why", removed.error().text()}});
    }
}
''')
sub(p,'''    if (process) {
        reap(process->pid);
    }
    return true;
}
''','''    if (process) {
        reap(process->pid);
    }
    remove_cgroup();
    return true;
}
''')
p='compute/driver/guest_process.h'
sub(p,'''    void remove_cgroup() const;
''','''    void remove_cgroup() const;
    std::string cgroup_name() const;
''')
p='compute/options.cc'
sub(p,'''    table.add({"simulated", "seed"''','''    table.add({"kumoi", "cgroup_parent", OptionType::String, "kumoi",
               "Control group below which each guest gets one of its own, for its CPU shares and "
               "quota. Empty: guests stay in the daemon's group, without limits."});
    table.add({"simulated", "seed"''')
p='base/cgroup.h'
sub(p,'''    // The controllers that a limit''','''    // The same name without making anything: to remove what may be there.
    static Cgroup existing(const CgroupHost& host, const std::string& name);

    // The controllers that a limit''')
p='base/cgroup.cc'
sub(p,'''    Cgroup group(name);
    std::map<std::string, std::set<std::string>> unified;  // by root
    for (const auto& [controller, place] : host.controllers) {
        group.folders_.emplace(controller, Folder{place.version, place.root + "/" + name});
''','''    Cgroup group = existing(host, name);
    std::map<std::string, std::set<std::string>> unified;  // by root
    for (const auto& [controller, place] : host.controllers) {
''')
sub(p,'''const Cgroup::Folder* Cgroup::folder(''','''Cgroup Cgroup::existing(const CgroupHost& host, const std::string& name) {
    Cgroup group(name);
    for (const auto& [controller, place] : host.controllers) {
        group.folders_.emplace(controller, Folder{place.version, place.root + "/" + name});
    }
    return group;
}

const Cgroup::Folder* Cgroup::folder(''')
p='compute/driver/guest_process.cc'
s=open(p).read().replace('existing_cgroup(*host, cgroup_name()).remove()','Cgroup::existing(*host, cgroup_name()).remove()'); open(p,'w').write(s)
p='tests/unit/compute/driver/guest_config_test.cc'
sub(p,'''                                                {"hw:mem_page_size", "large"},
''','''                                                {"hw:mem_page_size", "3MB"},
''')
p='compute/driver/guest_process.cc'
sub(p,'''    Cgroup group = TRY(Cgroup::create(host, cgroup_name()));
    TRY_CONTEXT(group.apply(limits), "limiting the guest");
    return std::optional(std::move(group));
''','''    // Shares alone are a matter of fairness: a host that cannot give them still runs the guest.
    const bool must = limits.cpu_quota_us.has_value() || limits.memory_bytes || limits.pids;
    auto limited = [&]() -> Result<Cgroup> {
        Cgroup group = TRY(Cgroup::create(host, cgroup_name()));
        TRY(group.apply(limits));
        return group;
    }();
    if (limited) {
        return std::optional(std::move(limited).value());
    }
    remove_cgroup();
    if (must) {
        return std::move(limited).error().with_context("limiting the guest");
    }
    log_warn("driver", "the guest runs without CPU shares", {{"why", limited.error().text()}});
    return std::optional<Cgroup>();
''')
sub(p,'''    if (!TRY(is_alive())) {
        return {};
    }
    const auto asked''','''    if (!TRY(is_alive())) {
        remove_cgroup();
        return {};
    }
    const auto asked''')
