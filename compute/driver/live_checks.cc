#include "compute/driver/live_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace kumoi::compute {
namespace {

constexpr std::string_view kFormat = "kumoi-live-facts-1";

std::set<std::string> words(const Json* list) {
    std::set<std::string> found;
    for (size_t i = 0; list != nullptr && list->is_array() && i < list->size(); ++i) {
        const Json& item = list->as_array()[i];
        if (item.is_string()) {
            found.insert(item.as_string());
        }
    }
    return found;
}

std::vector<std::string> list_of(const Json* list) {
    const auto found = words(list);
    return {found.begin(), found.end()};
}

// What the guest may use: the host's flags without those that are masked.
std::set<std::string> guest_features(const LiveFacts& facts) {
    std::set<std::string> features = words(facts.cpu_info.find("features"));
    for (const std::string& masked : facts.cpu_masked) {
        features.erase(masked);
    }
    return features;
}

void compare_cpus(const LiveFacts& here, const LiveFacts& there,
                  std::vector<std::string>& reasons) {
    const std::string ours = here.cpu_info.string_or("vendor");
    const std::string theirs = there.cpu_info.string_or("vendor");
    if (ours != theirs) {
        reasons.push_back(
            fmt::format("the processor is {} here and {} on {}", ours, theirs, there.host));
        return;
    }
    if (here.cpu_model != there.cpu_model) {
        reasons.push_back(fmt::format("guests get the processor model {} here and {} on {}",
                                      here.cpu_model, there.cpu_model, there.host));
    }
    if (here.cpu_model != "host") {
        return;  // the guest sees the model's features, and each host has checked that it has them
    }
    std::vector<std::string> missing;
    const auto available = guest_features(there);
    std::ranges::set_difference(guest_features(here), available, std::back_inserter(missing));
    if (!missing.empty()) {
        reasons.push_back(fmt::format("the processor of {} lacks {}", there.host,
                                      fmt::to_string(fmt::join(missing, ", "))));
    }
}

}  // namespace

std::string LiveFacts::text() const {
    return Json::object({{"format", kFormat},
                         {"host", host},
                         {"version", version},
                         {"boards", Json::array_of(boards)},
                         {"cpu_model", cpu_model},
                         {"cpu_masked", Json::array_of(cpu_masked)},
                         {"cpu_info", cpu_info},
                         {"vhost_net", vhost_net},
                         {"probe", probe},
                         {"disk_available_mb", disk_available_mb}})
        .dump();
}

Result<LiveFacts> LiveFacts::parse(const std::string& text) {
    const auto json = Json::parse(text);
    if (!json.ok() || json->string_or("format") != kFormat) {
        return migration_pre_check_error(
            {"the destination does not say what it is; it must run kumoi-compute with the kumoi "
             "driver, of a version with live migration"});
    }
    LiveFacts facts;
    facts.host = json->string_or("host");
    facts.version = json->string_or("version");
    facts.boards = list_of(json->find("boards"));
    facts.cpu_model = json->string_or("cpu_model");
    facts.cpu_masked = list_of(json->find("cpu_masked"));
    const Json* cpu_info = json->find("cpu_info");
    facts.cpu_info = cpu_info != nullptr ? *cpu_info : Json::object();
    facts.vhost_net = json->string_or("vhost_net");
    facts.probe = json->string_or("probe");
    facts.disk_available_mb = json->integer_or("disk_available_mb");
    return facts;
}

std::vector<std::string> live_obstacles(const LiveFacts& here, const LiveFacts& there,
                                        const LiveSubject& subject) {
    std::vector<std::string> reasons;
    if (!subject.running) {
        reasons.emplace_back("its guest does not run; migrate it cold");
    }
    if (subject.rescued) {
        reasons.emplace_back("it is rescued; unrescue it first");
    }
    if (std::ranges::find(there.boards, subject.board) == there.boards.end()) {
        reasons.push_back(fmt::format("{} (kumoi {}) does not have its board {}", there.host,
                                      there.version, subject.board));
    }
    compare_cpus(here, there, reasons);
    return reasons;
}

Result<LiveMigrationPlan> plan_live_migration(const LiveMigrationQuestion& question,
                                              const LiveSubject& subject) {
    const bool only_volumes = question.is_volume_backed && !subject.has_local_disks;
    const bool shared = subject.sees_probe || only_volumes;
    LiveMigrationPlan plan;
    plan.shared_instance_path = subject.sees_probe;
    plan.block_migration = question.block_migration.value_or(!shared);
    if (plan.block_migration && shared) {
        return Error::conflict(
                   "Instance is not on local storage: Block migration can not be used "
                   "with shared storage.")
            .with_fault("InvalidLocalStorage");
    }
    if (!plan.block_migration && !shared) {
        return Error::conflict(
                   "Instance is not on shared storage: Live migration can not be used without "
                   "shared storage except a booted from volume VM which does not have a local "
                   "disk.")
            .with_hint("Ask for block migration.")
            .with_fault("InvalidSharedStorage");
    }
    return plan;
}

std::vector<std::string> live_disk_obstacles(const LiveMigrationQuestion& question,
                                             const LiveMigrationPlan& plan, const LiveFacts& there,
                                             const LiveSubject& subject) {
    const int64_t needed =
        question.disk_over_commit ? subject.disk_needed_mb : subject.disk_virtual_mb;
    if (!plan.block_migration || needed <= there.disk_available_mb) {
        return {};
    }
    return {fmt::format("its disks need {} MiB and {} has {} MiB free", needed, there.host,
                        there.disk_available_mb)};
}

}  // namespace kumoi::compute
