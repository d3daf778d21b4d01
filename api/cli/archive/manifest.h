// The description in a kumoi archive (docs/reference/server-archive.md): kumoi.json, its first
// file.
//
//     {"format": 1, "server": {...}, "image": {...}, "files": ["disk0", "kernel"]}
//
// Values; read_manifest() takes hostile text.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

constexpr const char* kManifestName = "kumoi.json";
constexpr const char* kDigestsName = "SHA256SUMS";  // the last file: what sha256sum -c takes

struct ServerManifest {
    std::string name;
    uint32_t vcpus = 1;
    uint64_t memory_mib = 0;
    uint64_t disk_gib = 0;
    std::vector<std::string> networks;  // names
    std::map<std::string, std::string> metadata;
    std::map<std::string, std::string> image_properties;  // hw_*, os_*
    std::string disk_format;                              // qcow2 or raw
    uint64_t min_disk_gib = 0;
    bool kernel = false;  // a file of that name is there
    bool ramdisk = false;
};

std::string write_manifest(const ServerManifest& manifest);
Result<ServerManifest> read_manifest(std::string_view text);

// Of the image properties, those that say how the machine is built; ids and history stay behind.
bool is_portable_property(std::string_view name);

}  // namespace kumoi::cli
