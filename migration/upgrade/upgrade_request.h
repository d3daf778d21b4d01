// The params of the control methods `upgrade` and `upgrade_incoming`, and what only the states of
// an upgrade carry: the proof that both sides mean the same memory.
#pragma once

#include <cstdint>

#include "base/json.h"
#include "base/result.h"
#include "hypervisor/snapshot/section.h"
#include "migration/migration_request.h"

namespace kumoi::migration {

// One connection, no options, no disks that come along: everything is on this host.
Result<MigrationRequest> parse_upgrade_request(const Json& params);

// Which file a guest's memory is, for all processes of this host.
struct MemoryIdentity {
    static constexpr std::string_view kSection = "upgrade";
    uint64_t device = 0;
    uint64_t inode = 0;

    static Result<MemoryIdentity> of(int file);
    hypervisor::SectionWriter save() const;
    static Result<MemoryIdentity> load(hypervisor::SectionReader& in);
    bool operator==(const MemoryIdentity&) const = default;
};

}  // namespace kumoi::migration
