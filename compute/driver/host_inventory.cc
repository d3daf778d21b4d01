#include "compute/driver/host_inventory.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "base/file.h"

namespace kumoi::compute {
namespace {

constexpr uint64_t kGib = uint64_t{1} << 30;
constexpr size_t kProcFileMax = 8u << 20;

// The value of "Name:   1234 kB" in MiB.
std::optional<int64_t> meminfo_mb(std::string_view text, std::string_view name) {
    const size_t at = text.find(std::string(name) + ":");
    if (at == std::string_view::npos) {
        return std::nullopt;
    }
    const size_t start = text.find_first_of("0123456789", at + name.size());
    int64_t kib = 0;
    if (start == std::string_view::npos ||
        std::from_chars(text.data() + start, text.data() + text.size(), kib).ec != std::errc()) {
        return std::nullopt;
    }
    return kib / 1024;
}

// What follows "name\t: " in the first block of /proc/cpuinfo.
std::string cpuinfo_value(std::string_view text, std::string_view name) {
    size_t at = text.starts_with(name) ? 0 : text.find("\n" + std::string(name));
    if (at == std::string_view::npos) {
        return "";
    }
    const size_t colon = text.find(':', at);
    const size_t end = text.find('\n', at + 1);
    if (colon == std::string_view::npos || colon > end) {
        return "";
    }
    std::string_view value = text.substr(colon + 1, end - colon - 1);
    value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
    return std::string(value);
}

Json words(const std::string& text) {
    std::vector<std::string> list;
    size_t start = 0;
    while (start < text.size()) {
        const size_t end = std::min(text.find(' ', start), text.size());
        if (end > start) {
            list.push_back(text.substr(start, end - start));
        }
        start = end + 1;
    }
    std::sort(list.begin(), list.end());
    return Json::array_of(list);
}

int64_t number_or(const std::string& text, int64_t other) {
    int64_t number = other;
    std::from_chars(text.data(), text.data() + text.size(), number);
    return number;
}

}  // namespace

Result<MemoryInfo> parse_meminfo(std::string_view text) {
    const auto total = meminfo_mb(text, "MemTotal");
    const auto available = meminfo_mb(text, "MemAvailable");
    if (!total || !available) {
        return Error::corrupt("/proc/meminfo has no MemTotal or no MemAvailable");
    }
    return MemoryInfo{*total, *available};
}

Json parse_cpuinfo(std::string_view text, int64_t cpus) {
    const int64_t siblings = std::max<int64_t>(1, number_or(cpuinfo_value(text, "siblings"), 1));
    const int64_t cores = std::max<int64_t>(1, number_or(cpuinfo_value(text, "cpu cores"), 1));
    return Json::object(
        {{"arch", "x86_64"},
         {"model", cpuinfo_value(text, "model name")},
         {"vendor", cpuinfo_value(text, "vendor_id")},
         {"topology", Json::object({{"sockets", std::max<int64_t>(1, cpus / siblings)},
                                    {"cores", cores},
                                    {"threads", std::max<int64_t>(1, siblings / cores)}})},
         {"features", words(cpuinfo_value(text, "flags"))}});
}

Result<HostResources> host_inventory(const std::string& instances_path) {
    HostResources resources;
    resources.vcpus = ::sysconf(_SC_NPROCESSORS_ONLN);
    const MemoryInfo memory = TRY(parse_meminfo(TRY(read_file("/proc/meminfo", kProcFileMax))));
    resources.memory_mb = memory.total_mb;
    resources.memory_mb_used = memory.total_mb - memory.available_mb;
    struct statvfs disk {};
    if (::statvfs(instances_path.c_str(), &disk) != 0) {
        return Error::from_errno(errno, "measuring " + instances_path);
    }
    resources.local_gb = static_cast<int64_t>(disk.f_blocks * disk.f_frsize / kGib);
    resources.local_gb_free = static_cast<int64_t>(disk.f_bavail * disk.f_frsize / kGib);
    resources.cpu_info_json =
        parse_cpuinfo(TRY(read_file("/proc/cpuinfo", kProcFileMax)), resources.vcpus).dump();
    return resources;
}

}  // namespace kumoi::compute
