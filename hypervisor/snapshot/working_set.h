// The working set of a snapshot: which blocks a machine touches first after a restore, recorded in
// a file beside it (PATH.ws) by the first run and fetched ahead by later ones. Only a hint: a file
// that is missing, damaged or of another snapshot counts as empty.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

std::string working_set_path(const std::string& snapshot);
// `fingerprint`: SnapshotReader::fingerprint() of the snapshot it belongs to.
std::vector<uint32_t> read_working_set(FileSource& files, const std::string& snapshot,
                                       uint32_t fingerprint);
void write_working_set(FileSource& files, const std::string& snapshot, uint32_t fingerprint,
                       std::span<const uint32_t> blocks);

}  // namespace kumoi::hypervisor
