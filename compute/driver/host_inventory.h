// What this machine has: CPUs, memory and the file system of a folder, read from the kernel.
// Blocking for a moment; any thread.
#pragma once

#include <string>

#include "base/result.h"
#include "compute/driver/virt_driver.h"

namespace kumoi::compute {

Result<HostResources> host_inventory(const std::string& instances_path);

// Parts of it, on the text of the kernel's files.
struct MemoryInfo {
    int64_t total_mb = 0;
    int64_t available_mb = 0;
};
Result<MemoryInfo> parse_meminfo(std::string_view text);
// Nova's cpu_info: {"arch", "model", "vendor", "topology", "features"}.
Json parse_cpuinfo(std::string_view text, int64_t cpus);

}  // namespace kumoi::compute
