#include "base/cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <set>
#include <string_view>

#include "base/fd.h"
#include "base/file.h"

namespace kumoi {
namespace {

constexpr const char* kControllers[] = {"cpu", "cpuset", "memory", "pids"};
constexpr uint64_t kSharesMin = 2;
constexpr uint64_t kSharesMax = 262'144;
constexpr uint64_t kPeriodMin = 1'000;
constexpr uint64_t kPeriodMax = 1'000'000;
constexpr uint64_t kPeriodDefault = 100'000;
constexpr size_t kSmallFileMax = 1u << 20;

std::vector<std::string> words(std::string_view text, std::string_view separators) {
    std::vector<std::string> list;
    size_t begin = 0;
    while ((begin = text.find_first_not_of(separators, begin)) != std::string_view::npos) {
        const size_t end = std::min(text.find_first_of(separators, begin), text.size());
        list.emplace_back(text.substr(begin, end - begin));
        begin = end;
    }
    return list;
}

// Files of a cgroup take one write(2) with the whole value, and are not to be replaced.
Result<void> put(const std::string& path, const std::string& value) {
    const UniqueFd file = TRY(open_file(path, O_WRONLY));
    if (::write(file.get(), value.data(), value.size()) < 0) {
        return Error::from_errno(errno, fmt::format("writing \"{}\" to {}", value, path));
    }
    return {};
}

Result<std::string> get(const std::string& path) {
    std::string text = TRY(read_file(path, kSmallFileMax));
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
        text.pop_back();
    }
    return text;
}

Result<void> make_folder(const std::string& path) {
    if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) {
        return Error::from_errno(errno, "making the control group " + path);
    }
    return {};
}

// v1: a new cpuset is empty and takes no process until it has CPUs and memory nodes.
Result<void> inherit_cpuset(const std::string& parent, const std::string& child) {
    for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
        if (TRY(get(child + file)).empty()) {
            TRY(put(child + file, TRY(get(parent + file))));
        }
    }
    return {};
}

bool has_v1_cpuset(const CgroupHost& host, const std::string& root) {
    const auto found = host.controllers.find("cpuset");
    return found != host.controllers.end() && found->second.root == root &&
           found->second.version == CgroupHost::Version::V1;
}

// v2: children have only the controllers their parent hands down, and that can hand down only what
// it has itself: service managers do not give every slice everything.
Result<void> hand_down(const std::string& parent, const std::set<std::string>& wanted) {
    const auto enabled = words(TRY(get(parent + "/cgroup.subtree_control")), " ");
    const auto available = words(TRY(get(parent + "/cgroup.controllers")), " ");
    std::string missing;
    for (const std::string& controller : wanted) {
        if (std::ranges::find(enabled, controller) == enabled.end() &&
            std::ranges::find(available, controller) != available.end()) {
            missing += (missing.empty() ? "+" : " +") + controller;
        }
    }
    return missing.empty() ? Result<void>{} : put(parent + "/cgroup.subtree_control", missing);
}

Result<void> check_name(const std::string& name) {
    const auto parts = words(name, "/");
    const bool odd = parts.empty() || name.find('\0') != std::string::npos;
    if (odd || std::ranges::find(parts, "..") != parts.end()) {
        return Error::invalid("\"{}\" is no name of a control group", name);
    }
    return {};
}

Result<void> check_ranges(const CgroupLimits& limits) {
    if (limits.cpu_shares && (*limits.cpu_shares < kSharesMin || *limits.cpu_shares > kSharesMax)) {
        return Error::invalid("CPU shares of {} are outside {} to {}", *limits.cpu_shares,
                              kSharesMin, kSharesMax);
    }
    if (limits.cpu_period_us &&
        (*limits.cpu_period_us < kPeriodMin || *limits.cpu_period_us > kPeriodMax)) {
        return Error::invalid("a CPU period of {} us is outside {} to {}", *limits.cpu_period_us,
                              kPeriodMin, kPeriodMax);
    }
    if (limits.cpu_quota_us && *limits.cpu_quota_us >= 0 &&
        *limits.cpu_quota_us < static_cast<int64_t>(kPeriodMin)) {
        return Error::invalid("a CPU quota of {} us is below {}; -1 means none",
                              *limits.cpu_quota_us, kPeriodMin);
    }
    return {};
}

// "5:cpu,cpuacct:/system.slice/x" for v1, "0::/system.slice/x" for v2; empty for the root, and for
// what lies outside of the part of the hierarchy that is mounted here.
std::string own_group(const std::vector<std::string>& lines, const std::string& controller,
                      const CgroupHost::Place& place) {
    for (const std::string& line : lines) {
        const size_t first = line.find(':');
        const size_t second = line.find(':', first + 1);
        if (second == std::string::npos) {
            continue;
        }
        const auto names = words(line.substr(first + 1, second - first - 1), ",");
        const bool ours = place.version == CgroupHost::Version::V2
                              ? line.starts_with("0::")
                              : std::ranges::find(names, controller) != names.end();
        const std::string path = line.substr(second + 1);
        if (ours && path.size() > 1 && path.find("..") == std::string::npos &&
            path_exists(place.root + path)) {
            return path;
        }
    }
    return {};
}

// The folder that `name` counts from.
std::string start_of(const CgroupHost::Place& place, const std::string& name) {
    return name.starts_with('/') ? place.root : place.root + place.own;
}

// The folder of group `name` of one hierarchy, made where it is missing.
Result<std::string> make_groups(const CgroupHost& host, const CgroupHost::Place& place,
                                const std::set<std::string>& controllers, const std::string& start,
                                const std::string& name) {
    std::string path = start;
    for (const std::string& part : words(name, "/")) {
        if (place.version == CgroupHost::Version::V2) {
            TRY(hand_down(path, controllers));
        }
        TRY(make_folder(path + "/" + part));
        if (has_v1_cpuset(host, place.root)) {
            TRY(inherit_cpuset(path, path + "/" + part));
        }
        path += "/" + part;
    }
    return path;
}

// v2: a group with processes of its own, as ours is, cannot hand controllers down. Its parent can.
Result<std::string> make_groups_somewhere(const CgroupHost& host, const CgroupHost::Place& place,
                                          const std::set<std::string>& controllers,
                                          const std::string& name) {
    const std::string start = start_of(place, name);
    auto made = make_groups(host, place, controllers, start, name);
    if (made.ok() || place.version == CgroupHost::Version::V1 || start == place.root) {
        return made;
    }
    return make_groups(host, place, controllers, start.substr(0, start.rfind('/')), name);
}

}  // namespace

uint64_t cgroup_weight_of_shares(uint64_t shares) {
    const uint64_t bounded = std::clamp(shares, kSharesMin, kSharesMax);
    return 1 + (bounded - kSharesMin) * 9'999 / (kSharesMax - kSharesMin);
}

Result<CgroupHost> CgroupHost::detect(const std::string& mounts_path, const std::string& own_path) {
    const std::string mounts = TRY(read_file(mounts_path, kSmallFileMax));
    CgroupHost host;
    std::string unified;
    for (const std::string& line : words(mounts, "\n")) {
        const auto fields = words(line, " ");
        if (fields.size() < 4) {
            continue;
        }
        if (fields[2] == "cgroup2" && unified.empty()) {
            unified = fields[1];
        } else if (fields[2] == "cgroup") {
            const auto options = words(fields[3], ",");
            for (const char* controller : kControllers) {
                if (std::ranges::find(options, controller) != options.end()) {
                    host.controllers.try_emplace(controller, Place{Version::V1, fields[1], ""});
                }
            }
        }
    }
    if (!unified.empty()) {
        const auto offered = words(TRY(get(unified + "/cgroup.controllers")), " ");
        for (const char* controller : kControllers) {
            if (std::ranges::find(offered, controller) != offered.end()) {
                host.controllers.try_emplace(controller, Place{Version::V2, unified, ""});
            }
        }
    }
    const auto lines = words(TRY(read_file(own_path, kSmallFileMax)), "\n");
    for (auto& [controller, place] : host.controllers) {
        place.own = own_group(lines, controller, place);
    }
    return host;
}

Result<Cgroup> Cgroup::create(const CgroupHost& host, const std::string& name) {
    TRY(check_name(name));
    Cgroup group(name);
    std::map<std::string, std::set<std::string>> shared;  // controllers by root: v2's have one
    for (const auto& [controller, place] : host.controllers) {
        shared[place.root].insert(controller);
    }
    std::map<std::string, std::string> made;  // folder by root
    for (const auto& [controller, place] : host.controllers) {
        if (!made.contains(place.root)) {
            auto folder = make_groups_somewhere(host, place, shared[place.root], name);
            if (!folder.ok()) {
                (void)group.remove();  // half of a group is none; one in use stays
                return std::move(folder).error();
            }
            made[place.root] = std::move(folder).value();
        }
        group.folders_.emplace(controller, Folder{place.version, made[place.root]});
    }
    return group;
}

const Cgroup::Folder* Cgroup::folder(const std::string& controller) const {
    const auto found = folders_.find(controller);
    return found == folders_.end() ? nullptr : &found->second;
}

std::vector<std::string> Cgroup::missing(const CgroupLimits& limits) const {
    std::vector<std::string> names;
    const auto need = [&](const char* controller, bool wanted) {
        if (wanted && folder(controller) == nullptr) {
            names.emplace_back(controller);
        }
    };
    need("cpu", limits.cpu_shares || limits.cpu_period_us || limits.cpu_quota_us);
    need("cpuset", limits.cpus || limits.memory_nodes);
    need("memory", limits.memory_bytes.has_value());
    need("pids", limits.pids.has_value());
    return names;
}

Result<void> Cgroup::apply(const CgroupLimits& limits) const {
    TRY(check_ranges(limits));
    if (const auto names = missing(limits); !names.empty()) {
        return Error::unsupported("this host has no cgroup controller \"{}\" for {}", names.front(),
                                  name_)
            .with_hint("mount cgroup v2 with that controller, or ask for no such limit");
    }
    TRY(apply_cpu(limits));
    return apply_rest(limits);
}

Result<void> Cgroup::apply_cpu(const CgroupLimits& limits) const {
    const Folder* cpu = folder("cpu");
    if (cpu == nullptr) {
        return {};
    }
    const bool v1 = cpu->version == CgroupHost::Version::V1;
    if (limits.cpu_shares && v1) {
        TRY(put(cpu->path + "/cpu.shares", std::to_string(*limits.cpu_shares)));
    } else if (limits.cpu_shares) {
        TRY(put(cpu->path + "/cpu.weight",
                std::to_string(cgroup_weight_of_shares(*limits.cpu_shares))));
    }
    if (!limits.cpu_period_us && !limits.cpu_quota_us) {
        return {};
    }
    if (v1) {
        if (limits.cpu_period_us) {
            TRY(put(cpu->path + "/cpu.cfs_period_us", std::to_string(*limits.cpu_period_us)));
        }
        return limits.cpu_quota_us
                   ? put(cpu->path + "/cpu.cfs_quota_us",
                         std::to_string(std::max<int64_t>(*limits.cpu_quota_us, -1)))
                   : Result<void>{};
    }
    const auto now = words(TRY(get(cpu->path + "/cpu.max")), " ");  // "max 100000"
    const std::string quota =
        limits.cpu_quota_us
            ? (*limits.cpu_quota_us < 0 ? std::string("max") : std::to_string(*limits.cpu_quota_us))
            : (now.empty() ? std::string("max") : now.front());
    const std::string period = limits.cpu_period_us
                                   ? std::to_string(*limits.cpu_period_us)
                                   : (now.size() < 2 ? std::to_string(kPeriodDefault) : now[1]);
    return put(cpu->path + "/cpu.max", quota + " " + period);
}

Result<void> Cgroup::apply_rest(const CgroupLimits& limits) const {
    const Folder* cpuset = folder("cpuset");
    if (limits.memory_nodes) {
        TRY(put(cpuset->path + "/cpuset.mems", *limits.memory_nodes));
    }
    if (limits.cpus) {
        TRY(put(cpuset->path + "/cpuset.cpus", *limits.cpus));
    }
    if (limits.memory_bytes) {
        const Folder* memory = folder("memory");
        const bool v1 = memory->version == CgroupHost::Version::V1;
        TRY(put(memory->path + (v1 ? "/memory.limit_in_bytes" : "/memory.max"),
                std::to_string(*limits.memory_bytes)));
    }
    if (limits.pids) {
        TRY(put(folder("pids")->path + "/pids.max", std::to_string(*limits.pids)));
    }
    return {};
}

std::vector<std::string> Cgroup::procs_files() const {
    std::set<std::string> files;  // v2 controllers share one
    for (const auto& [controller, folder] : folders_) {
        files.insert(folder.path + "/cgroup.procs");
    }
    return {files.begin(), files.end()};
}

Result<void> Cgroup::add_process(pid_t pid) const {
    for (const std::string& file : procs_files()) {
        TRY(put(file, std::to_string(pid)));
    }
    return {};
}

Result<std::vector<pid_t>> Cgroup::processes() const {
    std::set<pid_t> pids;
    for (const std::string& file : procs_files()) {
        const auto text = get(file);
        if (!text && text.error().code == ErrorCode::NotFound) {
            continue;
        }
        for (const std::string& word : words(TRY(text), "\n")) {
            pid_t pid = 0;
            if (std::from_chars(word.data(), word.data() + word.size(), pid).ec == std::errc()) {
                pids.insert(pid);
            }
        }
    }
    return std::vector<pid_t>(pids.begin(), pids.end());
}

std::vector<std::string> Cgroup::folders() const {
    std::set<std::string> paths;
    for (const auto& [controller, folder] : folders_) {
        paths.insert(folder.path);
    }
    return {paths.begin(), paths.end()};
}

Result<void> Cgroup::remove() const {
    return remove_cgroup_folders(folders());
}

Result<void> remove_cgroup_folders(const std::vector<std::string>& folders) {
    for (const std::string& folder : folders) {
        if (::rmdir(folder.c_str()) != 0 && errno != ENOENT) {
            return Error::from_errno(errno, "removing the control group " + folder)
                .with_hint("processes still run in it, or it has groups of its own");
        }
    }
    return {};
}

Result<std::vector<std::string>> list_cgroups(const CgroupHost& host, const std::string& parent) {
    TRY(check_name(parent));
    std::set<std::string> names;
    for (const auto& [controller, place] : host.controllers) {
        const std::string folder = start_of(place, parent) + "/" + parent;
        if (!path_exists(folder)) {
            continue;
        }
        for (const std::string& entry : TRY(list_directory(folder))) {
            struct stat status {};
            if (::stat((folder + "/" + entry).c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
                names.insert(parent + "/" + entry);
            }
        }
    }
    return std::vector<std::string>(names.begin(), names.end());
}

}  // namespace kumoi
