// OVF descriptors (DMTF DSP0243 1.1): one virtual system with processors, memory, disks and network
// adapters, as vSphere, VirtualBox and others write and read them.
//
// write_ovf() makes a descriptor that these accept; read_ovf() takes theirs and keeps what a server
// can have. What is left out (controllers, floppies, product sections) is listed in `ignored`,
// to be
// shown. Pure values; the text is hostile and bounded by kOvfMax.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kumoi::cli {

constexpr size_t kOvfMax = 4u << 20;  // bytes
constexpr size_t kOvfDisksMax = 20;

struct OvfDisk {
    std::string file;         // as named in the archive
    uint64_t file_bytes = 0;  // 0: not told
    uint64_t capacity_bytes = 0;
};

struct OvfMachine {
    std::string name;
    uint32_t vcpus = 1;
    uint64_t memory_mib = 0;
    bool uefi = false;
    std::vector<OvfDisk> disks;         // the first is the root disk
    std::vector<std::string> networks;  // names, one an adapter
    std::vector<std::string> ignored;   // what the reader left out, in words
};

std::string write_ovf(const OvfMachine& machine);
Result<OvfMachine> read_ovf(std::string_view text);

// A .mf manifest: "SHA256(name)= hex" lines. Digests by name, lower case.
struct OvfDigest {
    std::string file;
    std::string algorithm;  // SHA1, SHA256, SHA512
    std::string hex;
};
Result<std::vector<OvfDigest>> read_ovf_manifest(std::string_view text);
std::string write_ovf_manifest(const std::vector<OvfDigest>& digests);

}  // namespace kumoi::cli
