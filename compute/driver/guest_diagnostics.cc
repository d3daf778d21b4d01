#include "compute/driver/guest_diagnostics.h"

#include "base/clock.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kMib = 1 << 20;

Json cpu_details(const Json& statistics) {
    Json details = Json::array();
    const Json* vcpus = statistics.find("vcpus");
    if (vcpus == nullptr || !vcpus->is_array()) {
        return details;
    }
    for (const Json& vcpu : vcpus->as_array()) {
        details.push_back(Json::object({{"id", vcpu.integer_or("index")},
                                        {"time", vcpu.integer_or("cpu_time_ns")},
                                        {"utilisation", Json()}}));
    }
    return details;
}

// One row of the guest's side becomes the host's: what the guest received is what we transmitted to
// it.
Json nic_details(const Instance& instance, const Json& statistics) {
    Json details = Json::array();
    for (size_t index = 0; index < instance.network_info.size(); ++index) {
        const Json* nic = statistics.find_path({"devices", fmt::format("net{}", index)});
        const Json none = Json::object();
        const Json& counters = nic != nullptr ? *nic : none;
        details.push_back(Json::object({{"mac_address", instance.network_info[index].mac},
                                        {"rx_octets", counters.integer_or("rx_bytes")},
                                        {"rx_packets", counters.integer_or("rx_frames")},
                                        {"rx_drop", counters.integer_or("rx_dropped")},
                                        {"rx_errors", 0},
                                        {"rx_rate", Json()},
                                        {"tx_octets", counters.integer_or("tx_bytes")},
                                        {"tx_packets", counters.integer_or("tx_frames")},
                                        {"tx_drop", counters.integer_or("tx_dropped")},
                                        {"tx_errors", 0},
                                        {"tx_rate", Json()}}));
    }
    return details;
}

Json disk_details(const Json& statistics) {
    Json details = Json::array();
    for (const char* id : {"root", "config"}) {
        const Json* disk = statistics.find_path({"devices", id});
        if (disk != nullptr) {
            details.push_back(Json::object({{"read_bytes", disk->integer_or("read_bytes")},
                                            {"read_requests", disk->integer_or("reads")},
                                            {"write_bytes", disk->integer_or("write_bytes")},
                                            {"write_requests", disk->integer_or("writes")},
                                            {"errors_count", disk->integer_or("errors")}}));
        }
    }
    return details;
}

// What the guest itself uses, when its balloon driver says so; else what the host backs of it.
int64_t memory_used_mib(const Json& statistics) {
    const Json* balloon = statistics.find_path({"devices", "balloon"});
    if (balloon != nullptr && balloon->find("guest_total_bytes") != nullptr) {
        const int64_t total = balloon->integer_or("guest_total_bytes");
        const int64_t unused =
            balloon->integer_or("guest_available_bytes", balloon->integer_or("guest_free_bytes"));
        return (total - unused) / kMib;
    }
    const Json* resident = statistics.find_path({"memory", "resident_bytes"});
    return resident != nullptr ? resident->to_int64().value_or(0) / kMib : 0;
}

}  // namespace

Json guest_diagnostics(const Instance& instance, const Json& state, const Json& statistics) {
    Json cpus = cpu_details(statistics);
    Json nics = nic_details(instance, statistics);
    Json disks = disk_details(statistics);
    const int64_t used_mb = memory_used_mib(statistics);
    const int64_t cpu_count = static_cast<int64_t>(cpus.size());
    const int64_t nic_count = static_cast<int64_t>(nics.size());
    const int64_t disk_count = static_cast<int64_t>(disks.size());
    return Json::object({{"state", state.string_or("state")},
                         {"driver", "libvirt"},  // Nova knows no other word that fits (an enum)
                         {"hypervisor", "kumoi"},
                         {"hypervisor_os", "linux"},
                         {"uptime", statistics.integer_or("uptime_ns") / kNanosPerSecond},
                         {"config_drive", instance.config_drive},
                         {"num_cpus", cpu_count},
                         {"num_nics", nic_count},
                         {"num_disks", disk_count},
                         {"cpu_details", std::move(cpus)},
                         {"nic_details", std::move(nics)},
                         {"disk_details", std::move(disks)},
                         {"memory_details", Json::object({{"maximum", instance.flavor.memory_mb},
                                                          {"used", used_mb}})}});
}

}  // namespace kumoi::compute
