// Checking an image: counts every reference from the tables and compares with the refcounts.
// On an idle store opened for_check (or for opening one that was not closed), blocking.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/block/qcow2/store.h"
#include "hypervisor/block/qcow2/tables.h"

namespace kumoi::hypervisor::qcow2 {

struct CheckReport {
    static constexpr size_t kMessagesMax = 100;
    uint64_t leaks = 0;        // clusters counted more often than used
    uint64_t corruptions = 0;  // everything else
    uint64_t repaired = 0;
    uint64_t data_clusters = 0;  // of the active disk
    uint64_t compressed_clusters = 0;
    uint64_t total_clusters = 0;
    uint64_t image_end = 0;             // bytes: the end of what is in use
    std::vector<std::string> messages;  // the first ones
};

enum class Repair { Nothing, Leaks, Refcounts };  // Refcounts: also where too few are counted

Result<CheckReport> check_image(Store& store, IoPort& port, Repair repair);
// Brings what a repair changed to disk and closes; takes the corrupt and dirty marks away when no
// errors are left.
Result<void> finish_repair(Store& store, IoPort& port, const CheckReport& report);
// check_image with Repair::Refcounts; what it changed is in the next commit.
Result<CheckReport> rebuild_refcounts(Store& store, IoPort& port);

}  // namespace kumoi::hypervisor::qcow2
