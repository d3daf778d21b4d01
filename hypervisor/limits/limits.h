// Limits of bandwidth and requests a second of one device, as values.
//
// As QEMU's `bps`, `bps-max` and `bps-max-length` mean them: on average `average`; after quiet
// times `maximum` for `length` seconds. parse_*() reads the "limits" member of guest.json and of
// set_disk_limits, where names are Nova's and libvirt's; *_json() writes it.
#pragma once

#include <cstdint>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::hypervisor {

struct RateLimit {
    uint64_t average = 0;  // units a second; 0: no limit
    uint64_t maximum = 0;  // units a second in a burst; 0: no bursts
    uint64_t length = 1;   // seconds a burst from a full bucket lasts
    uint64_t burst = 0;    // units at once, instead of maximum * length (libvirt's NIC burst)

    bool operator==(const RateLimit&) const = default;
};

struct DiskLimits {
    RateLimit total_bytes, read_bytes, write_bytes;
    RateLimit total_iops, read_iops, write_iops;
    uint64_t iops_size = 0;  // a request of n bytes counts as n / iops_size requests; 0: as one

    bool operator==(const DiskLimits&) const = default;
};
// Numbers that make no sense are refused.
Result<void> check_limits(const DiskLimits& limits);

struct NicLimits {
    RateLimit inbound;   // to the guest
    RateLimit outbound;  // from the guest

    bool operator==(const NicLimits&) const = default;
};
Result<void> check_limits(const NicLimits& limits);

Result<DiskLimits> parse_disk_limits(const JsonView& view);
Json disk_limits_json(const DiskLimits& limits);
Result<NicLimits> parse_nic_limits(const JsonView& view);
Json nic_limits_json(const NicLimits& limits);

}  // namespace kumoi::hypervisor
